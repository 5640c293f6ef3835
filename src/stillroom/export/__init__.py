"""Leave a model that loads without stillroom: transformers, sentence-transformers, ONNX Runtime."""

from stillroom.export.onnx import export_onnx as export_onnx
from stillroom.export.parity import Parity as Parity
from stillroom.export.parity import check_parity as check_parity
from stillroom.export.transformers import save_clean as save_clean
