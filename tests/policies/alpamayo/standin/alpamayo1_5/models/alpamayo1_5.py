import copy

from standin_parts import Model


class Alpamayo1_5(Model):
    def sample_trajectories_from_data_with_vlm_rollout(
        self, data, top_p=0.98, temperature=0.6, num_traj_samples=6, num_traj_sets=1,
        diffusion_kwargs=None, *, max_generation_length=64, return_extra=False,
    ):  # fmt: skip
        data = copy.deepcopy(data)
        tokens = data["tokenized_data"]
        text = "".join(map(chr, tokens.pop("input_ids")[0].tolist()))
        return self._sample(tokens, data, num_traj_samples, max_generation_length, f"[{text}]")

    def sample_trajectories_from_data_with_vlm_rollout_cfg_nav(self, data, **kwargs):
        text = "".join(map(chr, data["tokenized_data"]["input_ids"][0].tolist()))
        if "<|route_start|>" not in text:
            raise ValueError("no route tokens in the prompt")
        weight = kwargs["diffusion_kwargs"]["inference_guidance_weight"]
        assert kwargs["diffusion_kwargs"]["use_classifier_free_guidance"]
        out = self.sample_trajectories_from_data_with_vlm_rollout(data, **kwargs)
        out[2]["cot"][0, 0, 0] += f" guided {weight}"
        return out
