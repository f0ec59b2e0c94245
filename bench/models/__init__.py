"""`bench models`: models of several kinds side by side, CNN against ViT by default.

`model_figures` holds what is known of a model as values, `figures_kept` keeps it, `predict_models`
asks the engine, `time_models` times on a device, `model_scores` finds accuracies and recordings;
`model_tables` and `model_answer` show, `model_picture` draws. Each model is trained alone, with
nothing else changed. May import `evidence` and `predict` and what stands below. Judges nothing.
"""
