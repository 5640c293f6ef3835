"""What the tests of students share: tokenizers of both kinds and small models for them, made in memory."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, BertTokenizer, PreTrainedTokenizerFast

TEXTS = [
    "Return the smallest number in the list, or the default.",
    "Open a file for reading and return its lines.",
    "The number of lines in a file.",
    "Read the list of files in a folder; each file is opened once.",
] * 3
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session")
def word_pieces():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=120, special_tokens=SPECIAL))
    return BertTokenizer(vocab=tokenizer.get_vocab())


@pytest.fixture(scope="session")
def byte_pairs():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    )
    tokenizer.add_special_tokens(["<|bos|>", "<|end|>"])
    bos = tokenizer.token_to_id("<|bos|>")
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(), processors.TemplateProcessing("<|bos|> $A", special_tokens=[("<|bos|>", bos)])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|bos|>", eos_token="<|end|>", pad_token="<|end|>"
    )


@pytest.fixture
def bert(word_pieces):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(word_pieces),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=40,
        initializer_range=0.2,
        pad_token_id=word_pieces.pad_token_id,
    )
    return BertModel(config, add_pooling_layer=False).eval()
