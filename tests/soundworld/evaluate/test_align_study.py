"""The study at one step: everything is made, compared, kept, and not made twice."""

import json

import pytest
import torch

from aai.errors import InputError
from aai.metrics import Share
from aai.soundworld.evaluate import align_study


def test_the_ablation_compares_all_variants_on_the_same_start(study, capsys):
    done = align_study.ablation(study, steps=1, seeds=1)
    assert list(done["variants"]) == list(align_study.VARIANTS)
    for (found,) in done["variants"].values():
        (table,) = found["retrieval"]
        assert table["clips"] == 50 and found["audio-text"]["count"] == 50
        # Two of the three classes, four folds.
        assert found["zero-shot, {}"]["count"] == found["zero-shot, the sound of {}"]["count"] == 8
    table = (study.out / "ablation_1.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out and "| sound to picture, all, R@1 |" in table
    path = study.out / "ablation_1" / "0_0.json"
    changed = json.loads(path.read_text(encoding="utf-8"))
    changed["audio-text"]["value"] = 0.77
    path.write_text(json.dumps(changed), encoding="utf-8")
    assert align_study.ablation(study, 1, 1)["variants"]["eq. 1"][0]["audio-text"]["value"] == 0.77


def test_the_cheaper_forms_begin_alike_and_cost_time(study):
    done = align_study.cheaper(study, steps=1, seeds=2)
    assert list(done["variants"]) == list(align_study.FORMS)
    assert all(run["seconds a step"] > 0 for runs in done["variants"].values() for run in runs)
    # A first step of L_t, with the twin where the model is, adds nothing.
    plain, rests = (done["variants"][name][0] for name in ("eq. 1", "the twin every other step"))
    assert plain["retrieval"] == rests["retrieval"]
    table = (study.out / "cheaper_1.md").read_text(encoding="utf-8")
    assert table.startswith("| | eq. 1 | in bf16 | an eighth of the patches |")
    assert "| milliseconds of the processor a step |" in table and "±" in table


def test_real_sound_holds_each_fold_out_in_turn(study):
    done = align_study.real(study, steps=1, pretrain=1)
    for arm in align_study.ARMS:
        assert [run["fold"] for run in done["arms"][arm]] == [1, 2, 3, 4]
        assert all(run["curve"]["1"]["count"] == 3 for run in done["arms"][arm])
    assert done["not tuned"]["count"] == 8
    assert "from SoundWorld, 1 steps" in (study.out / "real_1_1.md").read_text(encoding="utf-8")
    assert study.real()["folds"].unique().tolist() == [1, 2, 3, 4]


def test_words_that_soundworld_does_not_know_stand_apart(study):
    words = ["baby cry", "chainsaw", "rain", "rooster"]
    vectors = align_study.label_vectors(study, words)
    gram = vectors @ vectors.T
    torch.testing.assert_close(gram.diag(), torch.ones(4))
    assert gram[:2].fill_diagonal_(0).abs().max() < 1e-5 < gram[2, 3].abs()
    assert torch.equal(vectors, align_study.label_vectors(study, words))
    heavy = study.caption_encoder.sentence(["rain"])[0]
    assert torch.cosine_similarity(vectors[2], heavy, dim=0) > 0.999


def test_a_table_sums_the_folds():
    runs = [{"fold": f, "curve": {"9": align_study.share(Share(f, 10))}} for f in range(1, 5)]
    table = align_study.real_table({"arms": {"from nothing": runs}}, 10)
    assert "| from nothing, 9 steps | 10.0 | 20.0 | 30.0 | 40.0 | 25.0 % (10 of 40;" in table


def test_recordings_are_asked_for():
    with pytest.raises(InputError, match="--recordings"):
        align_study.main(["real"])
