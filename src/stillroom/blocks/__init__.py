"""Parts with state that several methods use. The fused head with its divergence is `stillroom.blocks.fused`."""

from stillroom.blocks.ema import EMA as EMA
from stillroom.blocks.ema import cosine_momentum as cosine_momentum
from stillroom.blocks.layer_maps import LayerMap as LayerMap
from stillroom.blocks.layer_maps import layer_map as layer_map
from stillroom.blocks.masking import hide as hide
from stillroom.blocks.masking import hide_patches as hide_patches
from stillroom.blocks.projectors import MLP as MLP
from stillroom.blocks.projectors import projector as projector
from stillroom.blocks.queue import Queue as Queue
from stillroom.blocks.scale import LearnedScale as LearnedScale
from stillroom.blocks.scale import hold_back as hold_back
from stillroom.blocks.taps import attention_projections as attention_projections
