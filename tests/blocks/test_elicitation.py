"""What a model shows of itself, row by row without padding.

.venv/bin/python -m pytest tests/blocks/test_elicitation.py
"""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stillroom.blocks.elicitation import answered, elicit, p_true
from stillroom.evaluate.semantic_entropy import entropies


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=20, **shape)).eval()


def test_states_are_those_before_the_answer_and_before_its_last_token(model):
    """Row by row without padding; an answer of one token has no last but one, so both places are one."""
    prompts, said = [[1, 2, 3], [4, 5], [6, 7, 8, 9]], [[10, 11, 12, 0], [13, 0], [0]]
    found = answered(model, prompts, said, size=2)
    for row, (prompt, answer) in enumerate(zip(prompts, said, strict=True)):
        with torch.no_grad():
            output = model(torch.tensor([prompt + answer]), output_hidden_states=True)
        states = torch.stack(output.hidden_states, 1)[0]  # [L, T, H]
        torch.testing.assert_close(
            torch.tensor(found.tbg[row]), states[:, len(prompt) - 1].flatten(), atol=1e-5, rtol=0
        )
        second_last = max(len(prompt) + len(answer) - 2, len(prompt) - 1)
        torch.testing.assert_close(torch.tensor(found.slt[row]), states[:, second_last].flatten(), atol=1e-5, rtol=0)
        logs = output.logits[0].log_softmax(-1)
        wanted = [float(logs[len(prompt) - 1 + n, token]) for n, token in enumerate(answer)]
        assert found.log_likelihood[row] == pytest.approx(np.mean(wanted), abs=1e-5)
    np.testing.assert_array_equal(found.tbg[2], found.slt[2])
    assert found.length.tolist() == [4, 2, 1]


def test_a_model_is_asked_once_with_care_and_several_times_freely(model):
    prompts = [[1, 2, 3], [4, 5]]
    torch.manual_seed(0)
    found = elicit(model, prompts, stop=[0], max_new_tokens=5, samples=6)
    assert len(found.answers) == 2 and [len(row) for row in found.samples] == [6, 6]
    assert found.layers == 3 and found.shown.tbg.shape == (2, 3 * 16) and found.log_likelihoods.shape == (2, 6)
    again = answered(model, [prompts[1]] * 6, found.samples[1])
    np.testing.assert_allclose(found.log_likelihoods[1], again.log_likelihood, atol=1e-5)
    assert len({tuple(said) for said in found.samples[0]}) > 1  # free answers differ
    texts = [[str(said) for said in row] for row in found.samples]
    assert (entropies(texts, found.log_likelihoods, lambda a, b: True) == 0).all()
    assert (entropies(texts, found.log_likelihoods, lambda a, b: a == b) > 0).all()


def test_p_true_is_yes_against_no(model):
    prompts = [[1, 2, 3], [4]]
    found = p_true(model, prompts, yes=5, no=6)
    for row, prompt in enumerate(prompts):
        chances = model(torch.tensor([prompt])).logits[0, -1].detach().softmax(-1)
        assert found[row] == pytest.approx(float(chances[5] / (chances[5] + chances[6])), abs=1e-5)
