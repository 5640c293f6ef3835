"""How each kind of model reads rows and what it emits; `load` finds and opens one by name."""

from stillroom.views.base import View as View
from stillroom.views.base import make_batch as make_batch
