"""Attention of a trained vision transformer: its maps, their rollout, pictures of both.

    run_pictures      of a run: at the end of each stage, and when they are asked for
    drawn             what each file shows
    image_attention   what a picture needs of one model and one image
    pictures          images and maps as figures
    rollout           the maps of all layers as one
    maps              each layer's weights, from the model's own queries and keys

The public functions are imported from here.
"""

from distill.report.attention.maps import AttentionMaps, TokenLayout, attention_maps
from distill.report.attention.pictures import (
    visualize_attention_map,
    visualize_multi_head_attention,
)
from distill.report.attention.rollout import extract_attention_rollout

__all__ = [
    "AttentionMaps",
    "TokenLayout",
    "attention_maps",
    "extract_attention_rollout",
    "visualize_attention_map",
    "visualize_multi_head_attention",
]
