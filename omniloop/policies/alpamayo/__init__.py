"""Alpamayo 1 and 1.5, vision-language-action models of NVIDIA, as a policy.

The models' own packages (`alpamayo_r1`, `alpamayo1_5`) and weights are installed by whoever
uses them; nothing is downloaded from here.
"""
