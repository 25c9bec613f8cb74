"""Labels of other road users and the classes that they stand for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from omniloop.core.scene import ActorClass
from omniloop.scenes.embedded import EmbeddedScenes
from omniloop.scenes.labels import CATEGORY, alpasim_label, class_of


@pytest.mark.parametrize("kind", list(ActorClass))
def test_the_label_of_a_class_is_of_that_class(kind: ActorClass) -> None:
    assert class_of(CATEGORY[kind].upper()) is kind


@pytest.mark.parametrize(
    ("label", "kind", "written"),
    [
        ("Stroller", ActorClass.PEDESTRIAN, "Stroller"),  # AlpaSim reads the class from it
        ("van", ActorClass.CAR, "automobile"),  # it would be OTHER to AlpaSim
        ("bus", ActorClass.CAR, "automobile"),  # it would be a TRUCK
        ("REGULAR_VEHICLE", ActorClass.CAR, "automobile"),
    ],
)
def test_a_label_is_written_where_alpasim_takes_the_class_from_it(
    label: str, kind: ActorClass, written: str
) -> None:
    actor = EmbeddedScenes().load("stopped_lead").tracks[0].actor
    assert alpasim_label(replace(actor, label=label, actor_class=kind)) == written
