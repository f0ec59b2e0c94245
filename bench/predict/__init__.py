"""`bench predict`: one configuration, or the largest batch that fits, without a GPU.

`question` makes the candidate of a recipe's stage, `answer` asks the engine, `text` and `timeline`
show, `explain` proposes what would need less. `claims` holds the write-up's figures, which stand
beside a prediction of the same configuration. May import `probe` and the engines. Measures nothing.
"""
