"""Widgets that nodes which train share."""


def test_a_seed_has_64_bits_and_its_control(pack):
    seed = pack.part("nodes.training_inputs").seed_input("token")
    assert (seed.id, seed.default, seed.max) == ("seed", 0, 2**64 - 1) and seed.control_after_generate
    assert "same token" in seed.tooltip
