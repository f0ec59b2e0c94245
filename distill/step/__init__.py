"""The only forward, backward and update, and all that decides how many bytes they take.

Imports `data`, `spec` and `base`. The chain trains with this, the probe times it, the predictor
traces it, so nothing here knows its caller: no logging, no timing, no file but weights, and no
decision about memory. The order of allocations, and of names let go, is part of the result: an
edit here makes every prediction and every proof again (`device.fingerprint.UPDATE_SOURCES`).
"""
