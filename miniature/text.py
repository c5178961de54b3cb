"""Training of the miniature's text side: Gemma and the connectors learn to read captions.

LTX-2's text encoder is a language model that comes trained. The miniature's is trained here by a
reading test: from the connectors' output, one attention query a question must answer what the
caption said (which motion, which colour ...). The questions are thrown away; encoder and connectors
stay, frozen, for the diffusion training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: batch size, step -> captions and, for each question, the index of the right answer [B, Q].
CaptionSource = Callable[[int, int], tuple[list[str], Tensor]]


class ReadingTest(nn.Module):
    """One attention query and one linear answer for each question."""

    def __init__(self, width: int, answers: Sequence[int]) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(answers), width) / width**0.5)
        self.answers = nn.ModuleList(nn.Linear(width, n) for n in answers)

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """[B, L, D] connector output -> logits [B, answers] for each question."""
        attention = (tokens @ self.queries.T).softmax(dim=1)  # [B, L, Q]
        read = torch.einsum("blq,bld->bqd", attention, tokens)
        return [answer(read[:, q]) for q, answer in enumerate(self.answers)]


def encode_captions(components: dict[str, Any], captions: list[str]) -> Tensor:
    """Captions through tokenizer, Gemma and connectors: [B, L, D], with gradients."""
    tokenizer, encoder = components["tokenizer"], components["text_encoder"]
    inputs = tokenizer(
        captions,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    states = encoder(
        input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, output_hidden_states=True
    ).hidden_states
    hidden = torch.stack(states, dim=-1).flatten(2, 3)  # [B, L, width * (layers + 1)]
    return components["connectors"](hidden, inputs.attention_mask, padding_side="left")[0]


def train_text(
    components: dict[str, Any],
    source: CaptionSource,
    answers: Sequence[int],
    *,
    steps: int = 800,
    batch_size: int = 64,
    lr: float = 2e-3,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> list[float]:
    """Train text encoder and connectors in place; returns each question's accuracy afterwards.

    Args:
        components: of a miniature, as `build_components` gives them.
        source: draws captions and answers.
        answers: how many answers each question has.
    """
    torch.manual_seed(seed)
    test = ReadingTest(components["transformer"].config.cross_attention_dim, answers)
    modules = nn.ModuleList([components["text_encoder"].model.language_model, test])
    modules.append(components["connectors"])
    parameters = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    modules.train()
    for step in range(steps):
        captions, truth = source(batch_size, step)
        logits = test(encode_captions(components, captions))
        loss = torch.stack(
            [F.cross_entropy(logit, truth[:, q]) for q, logit in enumerate(logits)]
        ).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        if (step + 1) % 50 == 0:
            report(f"text step {step + 1}/{steps}  loss {loss.item():.4f}")
    modules.eval()
    with torch.no_grad():
        captions, truth = source(512, steps + 1)
        logits = test(encode_captions(components, captions))
    return [float((x.argmax(-1) == truth[:, q]).float().mean()) for q, x in enumerate(logits)]
