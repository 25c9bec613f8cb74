"""Where on Earth an OpenDRIVE map lies: its PROJ string, and points in the Earth's frame.

Transverse Mercator by Krueger's series to the fourth order in n, which is exact to a
micrometre within a UTM zone: Karney, Transverse Mercator with an accuracy of a few
nanometers, J. Geodesy 85 (2011), equations 7 to 36.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from omniloop.core.errors import SceneError
from omniloop.core.geometry import Array

SEMI_MAJOR_M = 6378137.0
FLATTENING = 1 / 298.257223563
"""Of WGS84."""

_E = float(np.sqrt(FLATTENING * (2 - FLATTENING)))
_N = FLATTENING / (2 - FLATTENING)
_RADIUS_M = SEMI_MAJOR_M / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64)
_ALPHA = (
    _N / 2 - 2 / 3 * _N**2 + 5 / 16 * _N**3 + 41 / 180 * _N**4,
    13 / 48 * _N**2 - 3 / 5 * _N**3 + 557 / 1440 * _N**4,
    61 / 240 * _N**3 - 103 / 140 * _N**4,
    49561 / 161280 * _N**4,
)
_BETA = (
    _N / 2 - 2 / 3 * _N**2 + 37 / 96 * _N**3 - 1 / 360 * _N**4,
    1 / 48 * _N**2 + 1 / 15 * _N**3 - 437 / 1440 * _N**4,
    17 / 480 * _N**3 - 37 / 840 * _N**4,
    4397 / 161280 * _N**4,
)

_KNOWN = ("tmerc", "utm")
_GIVE = "give +proj=tmerc with +lat_0, +lon_0, +k, +x_0, +y_0, or +proj=utm with +zone, in metres on WGS84"


@dataclass(frozen=True)
class TransverseMercator:
    """A transverse Mercator projection of WGS84; angles in degrees.

    Attributes:
        height_m: Height above the ellipsoid of the map's z = 0.
    """

    latitude_deg: float = 0.0
    longitude_deg: float = 0.0
    scale: float = 1.0
    east_m: float = 0.0
    north_m: float = 0.0
    height_m: float = 0.0

    def forward(self, latitude_deg: Array, longitude_deg: Array) -> Array:
        """Points ``(N, 2)`` of the map at latitudes and longitudes ``(N,)``."""
        xi, eta = _project(latitude_deg, np.asarray(longitude_deg) - self.longitude_deg)
        x = self.east_m + self.scale * _RADIUS_M * eta
        y = self.north_m + self.scale * _RADIUS_M * (xi - self._origin())
        return np.stack([x, y], axis=-1)

    def inverse(self, points_m: Array) -> tuple[Array, Array]:
        """Latitudes and longitudes ``(N,)`` of points ``(N, 2)`` of the map."""
        unit = self.scale * _RADIUS_M
        xi = (points_m[:, 1] - self.north_m) / unit + self._origin()
        eta = (points_m[:, 0] - self.east_m) / unit
        latitude, longitude = _unproject(xi, eta)
        return latitude, longitude + self.longitude_deg

    def _origin(self) -> float:
        return float(_project(np.array([self.latitude_deg]), np.zeros(1))[0][0])


def read_projection(text: str, where: str) -> TransverseMercator:
    """Read a PROJ string, or ``EPSG:32601`` to ``EPSG:32760`` (UTM on WGS84).

    A geoid grid is passed over: heights count as those above the ellipsoid.

    Raises:
        SceneError: it is another projection, ellipsoid or unit, or a number is none.
    """
    epsg = re.fullmatch(r"\s*(?:\+init=)?epsg:32([67])(\d\d)\s*", text, re.IGNORECASE)
    if epsg:
        return _utm(float(epsg[2]), epsg[1] == "7", text, where)
    # NuRec's maps say "+=alt_0=0" for "+alt_0=0".
    pairs = (part.lstrip("+=").partition("=") for part in text.split())
    given = {key: value.strip('"') for key, _, value in pairs}
    kind = given.get("proj")
    if kind not in _KNOWN:
        shown = f"+proj={kind}" if kind else repr(text.strip()[:60])
        raise SceneError(f"geoReference {shown} is not supported", where=where, remedy=_GIVE)
    for key, fine in (
        ("ellps", ("WGS84", "GRS80")), ("datum", ("WGS84",)), ("units", ("m",)), ("axis", ("enu",)),
    ):  # fmt: skip
        if given.get(key, fine[0]) not in fine:
            raise SceneError(
                f"geoReference +{key}={given[key]} is not supported", where=where, remedy=_GIVE
            )
    if any(_numbers(given.get("towgs84", "0"), where)):
        raise SceneError(
            f"geoReference +towgs84={given['towgs84']} is not supported", where=where, remedy=_GIVE
        )

    def get(key: str, default: float = 0.0) -> float:
        return _numbers(given[key], where)[0] if key in given else default

    height = get("alt_0", get("h_0"))
    if kind == "utm":
        found = _utm(get("zone"), "south" in given, text, where)
        return TransverseMercator(
            0.0, found.longitude_deg, found.scale, found.east_m, found.north_m, height
        )
    latitude, longitude = get("lat_0"), get("lon_0")
    scale = get("k", get("k_0", 1.0))
    if not (abs(latitude) <= 90 and abs(longitude) <= 360 and scale > 0):
        raise SceneError(
            f"geoReference '{text.strip()}' is no place on Earth", where=where, remedy=_GIVE
        )
    return TransverseMercator(latitude, longitude, scale, get("x_0"), get("y_0"), height)


def _utm(zone: float, south: bool, text: str, where: str) -> TransverseMercator:
    if zone not in range(1, 61):
        raise SceneError(
            f"geoReference '{text.strip()}' has no zone 1 to 60", where=where, remedy=_GIVE
        )
    return TransverseMercator(0.0, 6 * zone - 183, 0.9996, 500_000.0, 1e7 if south else 0.0)


def _numbers(text: str, where: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [np.nan]
    if not np.isfinite(found).all():
        raise SceneError(
            f"geoReference: {text!r} is not a finite number", where=where, remedy=_GIVE
        )
    return found


def earth_from_degrees(latitude_deg: Array, longitude_deg: Array, height_m: Array) -> Array:
    """Points ``(N, 3)`` in the frame that turns with the Earth (ECEF, WGS84)."""
    phi, lam = np.radians(latitude_deg), np.radians(longitude_deg)
    across = SEMI_MAJOR_M / np.sqrt(1 - (_E * np.sin(phi)) ** 2)
    flat = (across + height_m) * np.cos(phi)
    up = (across * (1 - _E**2) + height_m) * np.sin(phi)
    return np.stack([flat * np.cos(lam), flat * np.sin(lam), up], axis=-1)


def _project(latitude_deg: Array, longitude_deg: Array) -> tuple[Array, Array]:
    tau, lam = np.tan(np.radians(latitude_deg)), np.radians(longitude_deg)
    conformal = _conformal(tau)
    xi = np.arctan2(conformal, np.cos(lam))
    eta = np.arcsinh(np.sin(lam) / np.hypot(conformal, np.cos(lam)))
    shifts = [
        (a * np.sin(2 * j * xi) * np.cosh(2 * j * eta), a * np.cos(2 * j * xi) * np.sinh(2 * j * eta))
        for j, a in enumerate(_ALPHA, start=1)
    ]  # fmt: skip
    return xi + sum(s[0] for s in shifts), eta + sum(s[1] for s in shifts)


def _unproject(xi: Array, eta: Array) -> tuple[Array, Array]:
    shifts = [
        (b * np.sin(2 * j * xi) * np.cosh(2 * j * eta), b * np.cos(2 * j * xi) * np.sinh(2 * j * eta))
        for j, b in enumerate(_BETA, start=1)
    ]  # fmt: skip
    xi, eta = xi - sum(s[0] for s in shifts), eta - sum(s[1] for s in shifts)
    wanted = np.sin(xi) / np.hypot(np.sinh(eta), np.cos(xi))
    tau = wanted / (1 - _E**2)
    for _ in range(4):  # Newton
        found = _conformal(tau)
        slope = np.hypot(1, found) * np.hypot(1, tau) * (1 - _E**2) / (1 + (1 - _E**2) * tau**2)
        tau = tau + (wanted - found) / slope
    return np.degrees(np.arctan(tau)), np.degrees(np.arctan2(np.sinh(eta), np.cos(xi)))


def _conformal(tau: Array) -> Array:
    """Tangent of the conformal latitude."""
    secant = np.hypot(1, tau)
    sigma = np.sinh(_E * np.arctanh(_E * tau / secant))
    return np.asarray(tau * np.hypot(1, sigma) - sigma * secant)
