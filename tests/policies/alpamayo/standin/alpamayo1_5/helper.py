import torch
from standin_parts import Processor, to_device

__all__ = ["create_message", "get_processor", "to_device"]


def create_message(frames, camera_indices=None, num_frames_per_camera=4, nav_text=None):
    if frames.ndim != 4:
        raise ValueError(f"{frames.ndim=}, expected 4 (N, C, H, W)")
    if camera_indices is not None:
        assert isinstance(camera_indices, torch.Tensor)
        assert len(camera_indices) * num_frames_per_camera == len(frames)
        assert camera_indices.tolist() == sorted(camera_indices.tolist())
    cameras = "" if camera_indices is None else ",".join(map(str, camera_indices.tolist()))
    route = f"<|route_start|>{nav_text}<|route_end|>" if nav_text else ""
    images = [{"type": "image", "image": frame} for frame in frames]
    return [
        {"role": "system", "content": []},
        {"role": "user", "content": [*images, {"type": "text", "text": f"{cameras} {route}"}]},
        {"role": "assistant", "content": []},
    ]


def get_processor(tokenizer):
    return Processor(tokenizer)
