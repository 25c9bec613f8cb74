from standin_parts import Model


class AlpamayoR1(Model):
    def sample_trajectories_from_data_with_vlm_rollout(
        self, data, top_p=0.98, temperature=0.6, num_traj_samples=6, num_traj_sets=1,
        diffusion_kwargs=None, *, max_generation_length=64, return_extra=False,
    ):  # fmt: skip
        tokens = data["tokenized_data"]
        tokens.pop("input_ids")  # in place, as the published one does
        count = len(tokens["pixel_values"])
        return self._sample(
            tokens, data, num_traj_samples, max_generation_length, f"{count} images"
        )
