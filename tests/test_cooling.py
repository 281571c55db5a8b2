from fercompress.measure.cooling import Cooling


class Room:
    """A chip that cools by `per_s` millidegrees a second down to `floor`; waiting takes no time."""

    def __init__(self, mc, per_s, floor=0):
        self.mc, self.per_s, self.floor, self.now, self.reads = mc, per_s, floor, 0.0, 0

    def sleep(self, seconds):
        self.now += seconds
        self.mc = max(self.floor, self.mc - round(seconds * self.per_s))

    def read(self):
        self.reads += 1
        return {"z": self.mc}

    def cooling(self, first, limit_s=300.0):
        return Cooling({"z": first}, limit_s, self.read, self.sleep, lambda: self.now)


def test_a_block_waits_until_every_zone_is_within_three_degrees_of_the_first_reading():
    room = Room(60_000, per_s=1000)
    cooling = room.cooling(first=40_000)
    cooling.seen({"temperature_mc_end": {"z": 60_000}})
    assert cooling.wait() == {"cool_down_s": 20.0, "cool_down_over_mc": 0}
    assert room.mc == 40_000


def test_after_a_cool_block_nothing_is_read():
    room = Room(43_000, per_s=0)
    cooling = room.cooling(first=40_000)
    cooling.seen({"temperature_mc_end": {"z": 43_000}})
    assert cooling.wait() == {"cool_down_s": 0.0, "cool_down_over_mc": 0}
    assert room.reads == 0


def test_what_does_not_cool_is_waited_for_once_and_told_every_time():
    room = Room(70_000, per_s=100, floor=50_000)
    cooling = room.cooling(first=40_000)
    cooling.seen({"temperature_mc_end": {"z": 70_000}})
    assert cooling.wait() == {"cool_down_s": 300.0, "cool_down_over_mc": 7000}
    cooling.seen({"temperature_mc_end": {"z": 50_000}})
    assert cooling.wait() == {"cool_down_s": 0.0, "cool_down_over_mc": 7000}


def test_without_readings_or_with_the_rule_turned_off_nobody_waits():
    room = Room(70_000, per_s=0)
    assert Cooling({}, 300.0, room.read, room.sleep).wait() == {}
    off = room.cooling(first=40_000, limit_s=0)
    off.seen({"temperature_mc_end": {"z": 90_000}})
    assert off.wait() == {}
    odd = room.cooling(first=40_000)
    odd.seen({"temperature_mc_end": "hot"})
    assert odd.wait()["cool_down_s"] == 0
