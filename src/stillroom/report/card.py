"""The model card: ``README.md`` beside the weights, in the form that the Hugging Face Hub reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from stillroom import catalog
from stillroom.errors import UserError
from stillroom.report import tables
from stillroom.report.page import sources
from stillroom.report.reading import Run, read
from stillroom.report.rendering import markdown, save
from stillroom.report.verdict import verdict

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
PLACE = "path/to/model"  # in the snippet: where the reader has put the folder

# The end of the architecture's name in config.json -> the class that loads it, and the Hub's name of the task.
# The first that fits counts.
ARCHITECTURES = {
    "WhisperForConditionalGeneration": ("AutoModelForSpeechSeq2Seq", "automatic-speech-recognition"),
    "ForConditionalGeneration": ("AutoModelForSeq2SeqLM", "text-generation"),
    "ForCausalLM": ("AutoModelForCausalLM", "text-generation"),
    "LMHeadModel": ("AutoModelForCausalLM", "text-generation"),
    "ForMaskedLM": ("AutoModelForMaskedLM", "fill-mask"),
    "ForSequenceClassification": ("AutoModelForSequenceClassification", "text-classification"),
    "ForTokenClassification": ("AutoModelForTokenClassification", "token-classification"),
    "ForQuestionAnswering": ("AutoModelForQuestionAnswering", "question-answering"),
    "ForImageClassification": ("AutoModelForImageClassification", "image-classification"),
    "ForSemanticSegmentation": ("AutoModelForSemanticSegmentation", "image-segmentation"),
    "ForObjectDetection": ("AutoModelForObjectDetection", "object-detection"),
    "ForCTC": ("AutoModelForCTC", "automatic-speech-recognition"),
    "CLIPModel": ("AutoModel", "zero-shot-image-classification"),
    "Model": ("AutoModel", "feature-extraction"),
}

USES = {
    "text-generation": [
        'inputs = tokenizer("The teacher said", return_tensors="pt")',
        "tokens = model.generate(**inputs, max_new_tokens=50)",
        "text = tokenizer.decode(tokens[0], skip_special_tokens=True)",
    ],
    "image-classification": [
        "from PIL import Image",
        "",
        'inputs = processor(Image.open("picture.png").convert("RGB"), return_tensors="pt")',
        "label = model.config.id2label[model(**inputs).logits.argmax(-1).item()]",
    ],
    "text-classification": [
        'inputs = tokenizer("A text to be judged.", return_tensors="pt")',
        "label = model.config.id2label[model(**inputs).logits.argmax(-1).item()]",
    ],
    "feature-extraction": [
        'inputs = tokenizer("A text.", return_tensors="pt")',
        "vectors = model(**inputs).last_hidden_state  # [1, tokens, width]",
    ],
}


class Kind(NamedTuple):
    """How a saved model is loaded: its library, its task on the Hub, the code."""

    library: str
    task: str
    snippet: str


def write_card(run_folder: Path | str) -> Path:
    """Write ``model/README.md`` into a run folder and return its path.

    What isn't known is left out: no licence unless the run names one, no base model unless it is on the Hub.

    Raises:
        UserError: the folder holds no run or no model, or a file in it doesn't hold what it should.
    """
    run = read(run_folder)
    model = run.folder / "model"
    if not model.is_dir():
        raise UserError(f"{run.folder} holds no model to describe: there is no folder {model}; finish the run first")
    kind, evaluation = kind_of(model), run.evaluation
    systems = tables.ordered(evaluation) if evaluation else []
    columns = tables.columns(evaluation) if evaluation else []
    text = markdown(
        "card.md.j2",
        run=run,
        about=run.about,
        metadata=_metadata(run, kind),
        verdict=verdict(run),
        paper=catalog.find(run.about.method).title if _catalogued(run) else "",
        snippet=kind.snippet if kind else "",
        header=[column.title + (f" ({column.unit})" if column.unit else "") for column in columns],
        rows=[(system, [column.cells[row] for column in columns]) for row, system in enumerate(systems)],
        role=tables.role,
        sources=sources(run),
    )
    return save(text, model / "README.md")


def kind_of(model: Path) -> Kind | None:
    """What the files of a saved model say it is; None for a kind that no library loads by itself."""
    if (model / "modules.json").is_file():
        return Kind("sentence-transformers", "sentence-similarity", _sentence_snippet())
    if not (model / "config.json").is_file():
        return None
    config = json.loads((model / "config.json").read_text("utf-8"))
    architecture = str((config.get("architectures") or [""])[0])
    if "sentence_transformers" in config:
        return Kind("sentence-transformers", "text-ranking", _pairs_snippet())
    for end, (loader, task) in ARCHITECTURES.items():
        if architecture.endswith(end):
            return Kind("transformers", task, _snippet(model, loader, task))
    return None


def _snippet(model: Path, loader: str, task: str) -> str:
    reads, name = "AutoProcessor", "processor"
    if (model / "tokenizer_config.json").is_file() and not (model / "preprocessor_config.json").is_file():
        reads, name = "AutoTokenizer", "tokenizer"
    elif task in ("image-classification", "image-segmentation", "object-detection"):
        reads = "AutoImageProcessor"
    lines = [
        f"from transformers import {loader}, {reads}",
        "",
        f'{name} = {reads}.from_pretrained("{PLACE}")',
        f'model = {loader}.from_pretrained("{PLACE}")',
    ]
    return "\n".join([*lines, *USES.get(task, [])])


def _sentence_snippet() -> str:
    return f'''from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{PLACE}")
vectors = model.encode(["The first text.", "The second text."])
likeness = model.similarity(vectors, vectors)'''


def _pairs_snippet() -> str:
    return f'''from sentence_transformers import CrossEncoder

model = CrossEncoder("{PLACE}")
scores = model.predict([("The question.", "A passage that may answer it.")])'''


def _metadata(run: Run, kind: Kind | None) -> dict[str, Any]:
    """The card's front matter."""
    about = run.about
    tags = [
        "distillation",
        "knowledge-distillation",
        "stillroom",
        about.method,
        about.family if _catalogued(run) else "",
    ]
    known = {
        "library_name": kind.library if kind else None,
        "base_model": _hub_id(about.student) or (_hub_id(about.teacher) if _cut_of_teacher(run) else None),
        "pipeline_tag": kind.task if kind else None,
        "license": about.license,
        "tags": list(dict.fromkeys(tag for tag in tags if tag)),
    }
    return {key: value for key, value in known.items() if value is not None}


def _catalogued(run: Run) -> bool:
    """Whether the method is one of the catalogue's, rather than a baseline."""
    return any(system.slug == run.about.method for system in catalog.systems())


def _hub_id(name: str | None) -> str | None:
    """The name if it is one of the Hub's; a folder of this machine is nobody else's base model."""
    return name if name and HUB_ID.fullmatch(name) and not Path(name).exists() else None


def _cut_of_teacher(run: Run) -> bool:
    settings = run.settings()
    return "teacher" in (settings.get("student.cut.of"), settings.get("student.static.of"))
