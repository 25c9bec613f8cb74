"""What both stand-ins share: a processor and a model with the published calls, shapes and quirks.

The model drives straight on at the speed of the history, slower the darker its newest images.
Its reasoning tells what it was given.
"""

from __future__ import annotations

import collections.abc
import json
from pathlib import Path

import numpy as np
import torch


class Processor:
    """Wants the call that the published one gets, and images as uint8."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def apply_chat_template(
        self, messages, *, tokenize, add_generation_prompt, continue_final_message, return_dict,
        return_tensors,
    ):  # fmt: skip
        assert (tokenize, add_generation_prompt, continue_final_message) == (True, False, True)
        assert (return_dict, return_tensors) == (True, "pt")
        user = messages[1]["content"]
        images = [part["image"] for part in user if part["type"] == "image"]
        text = "".join(part["text"] for part in user if part["type"] == "text")
        assert all(image.dtype == torch.uint8 and image.shape[0] == 3 for image in images)
        pixels = torch.stack([image.float().mean() for image in images])
        return {
            "input_ids": torch.tensor([[ord(c) for c in text]], dtype=torch.int64),
            "attention_mask": torch.ones((1, len(text)), dtype=torch.int64),
            "pixel_values": pixels,
        }


def to_device(data, device=None, dtype=None):
    if isinstance(data, torch.Tensor):
        return data.to(device=device)
    if isinstance(data, collections.abc.Mapping):
        return {key: to_device(data[key], device, dtype) for key in data}
    return data


class Model:
    """Draws from torch's global generator, under autocast to bf16, as the published ones do."""

    def __init__(self, config, dtype):
        self.config, self.dtype, self.tokenizer, self.device = config, dtype, object(), None
        self.training = True

    @classmethod
    def from_pretrained(cls, name, *, dtype, attn_implementation=None):
        file = Path(name) / "config.json"
        if not file.is_file():
            raise OSError(f"We couldn't connect to 'https://huggingface.co' to load {name}.")
        return cls(json.loads(file.read_text()), dtype)

    def to(self, device):
        if self.config.get("too_large"):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        self.device = torch.device(device)
        return self

    def eval(self):
        self.training = False
        return self

    def _sample(self, tokens, data, samples, longest, extra_words=""):
        assert not self.training
        assert self.dtype is torch.bfloat16
        assert torch.is_autocast_enabled(self.device.type)
        assert not torch.is_grad_enabled()
        xyz, rot = data["ego_history_xyz"], data["ego_history_rot"]
        assert (xyz.shape, rot.shape) == ((1, 1, 16, 3), (1, 1, 16, 3, 3))
        assert xyz.dtype == rot.dtype == torch.float32
        assert float(xyz[0, 0, -1].abs().max()) < 1e-5
        assert torch.allclose(rot[0, 0, -1], torch.eye(3), atol=1e-5)
        if self.config.get("nan"):
            xyz = xyz * float("nan")
        pixels = tokens["pixel_values"]
        speed = float((xyz[0, 0, -1] - xyz[0, 0, -2]).norm() / 0.1)
        speed *= 0.5 + 0.5 * min(float(pixels[-1]) / 4.0, 1.0)
        step = torch.arange(1, 65) * 0.1
        out = torch.zeros((1, 1, samples, 64, 3))
        out[..., 0] = speed * step
        out[..., 1] = torch.randn((1, 1, samples, 1)) * 0.02 * step
        turned = torch.eye(3).expand(1, 1, samples, 64, 3, 3).clone()
        if self.config.get("waypoints"):
            out, turned = out[..., : self.config["waypoints"], :], turned[..., :10, :, :]
        words = ["keep", "the", "lane"] + extra_words.split() + ["because", "it", "is", "free"]
        text = " ".join(words[:longest])
        cot = np.array([[[text] * samples]], dtype=object)
        return out.to(torch.bfloat16), turned, {"cot": cot, "meta_action": cot, "answer": cot}
