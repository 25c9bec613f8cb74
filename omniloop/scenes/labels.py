"""Labels of NVIDIA's recordings and of AlpaSim, and the classes that they stand for."""

from __future__ import annotations

from omniloop.core.scene import Actor, ActorClass

CATEGORY = {
    ActorClass.CAR: "automobile",
    ActorClass.TRUCK: "heavy_truck",
    ActorClass.PEDESTRIAN: "person",
    ActorClass.CYCLIST: "rider",
    ActorClass.OTHER: "other",
}
"""The label that AlpaSim and NVIDIA's readers take for each class."""

_ALPASIM = {
    ActorClass.CAR: ("car", "automobile", "vehicle", "other_vehicle"),
    ActorClass.TRUCK: ("truck", "heavy_truck", "bus", "trailer"),
    ActorClass.PEDESTRIAN: ("pedestrian", "person", "stroller"),
    ActorClass.CYCLIST: ("cyclist", "bicycle", "rider"),
}
"""Labels that AlpaSim knows (alpasim.md 1.8)."""

_FURTHER = {
    ActorClass.CAR: ("van", "suv"),
    ActorClass.TRUCK: ("large_vehicle", "train_or_tram_car", "trolley_bus", "construction_vehicle"),
    ActorClass.CYCLIST: ("motorcycle", "motorcyclist"),
}

_ALPASIM_CLASS_OF = {label: kind for kind, labels in _ALPASIM.items() for label in labels}
_CLASS_OF = _ALPASIM_CLASS_OF | {
    label: kind for kind, labels in _FURTHER.items() for label in labels
}


def class_of(label: str) -> ActorClass:
    """The class of a label, whatever its case; `ActorClass.OTHER` if it is unknown."""
    return _CLASS_OF.get(label.lower(), ActorClass.OTHER)


def alpasim_label(actor: Actor) -> str:
    """The actor's label where AlpaSim takes its class from it, else one of AlpaSim's own."""
    known = _ALPASIM_CLASS_OF.get(actor.label.lower())
    return actor.label if known is actor.actor_class else CATEGORY[actor.actor_class]
