from standin_parts import Processor, to_device

__all__ = ["create_message", "get_processor", "to_device"]


def create_message(frames):
    if frames.ndim != 4:
        raise ValueError(f"{frames.ndim=}, expected 4 (N, C, H, W)")
    images = [{"type": "image", "image": frame} for frame in frames]
    return [
        {"role": "system", "content": []},
        {"role": "user", "content": [*images, {"type": "text", "text": "reason, then drive"}]},
        {"role": "assistant", "content": []},
    ]


def get_processor(tokenizer):
    return Processor(tokenizer)
