package slo

import (
	"math"
	"math/rand/v2"
	"testing"

	"serin.dev/serin/analysis/verdict"
)

// binomial draws exactly, in a time that does not grow with n p.
func binomial(r *rand.Rand, n int64, p float64) (k int64) {
	for range n {
		if r.Float64() < p {
			k++
		}
	}
	return k
}

// overlap simulates a day of two rollouts that overlap: release 2 beside release 1
// in growing shares, and a flag that is on for half of the units of both. The rate
// of failures differs by stratum and hour, the mix of strata shifts to the new
// release's side, and each change adds failures of its own. It returns the
// expectation of what each added.
func overlap(r *rand.Rand, units int64) (s Spending, release, flag float64) {
	s.Budget = 0.01
	for hour := range int32(24) {
		share := 0.05 + 0.45*float64(hour)/24
		daily := 1 + 0.8*math.Sin(float64(hour)/4)
		for k, stratum := range []string{"web/mobile", "web/desktop", "ios/mobile"} {
			p := []float64{0.02, 0.005, 0.01}[k] * (1 + 0.5*math.Cos(float64(hour)/3))
			mix := []float64{0.3, 0.5, 0.2}[k]
			for _, rel := range []string{"1", "2"} {
				sh := 1 - share
				if rel == "2" {
					sh = share * []float64{1.5, 0.7, 1}[k]
				}
				for _, arm := range []string{"off", "on"} {
					n := int64(float64(units) * daily * mix * sh / 2)
					q := p
					if rel == "2" {
						q += 0.01
						release += float64(n) * 0.01
					}
					if arm == "on" {
						q += 0.006
						flag += float64(n) * 0.006
					}
					s.Hours = append(s.Hours, Hour{Cohort: map[string]int{"1": 0, "2": 1}[rel], Release: rel, Arms: "flag/x=" + arm, Stratum: stratum, At: start + 60*hour, Total: n, Bad: binomial(r, n, q)})
				}
			}
		}
	}
	return s, release, flag
}

// TestExcess holds the estimates to the truth, within 5 %, and the intervals to
// their coverage of 95 %, within 1.
func TestExcess(t *testing.T) {
	const runs = 2000
	r := rand.New(rand.NewPCG(1, 2))
	var covered, found [2]int
	var sum, truth [2]float64
	for range runs {
		s, release, flag := overlap(r, 400)
		w := s.Who()
		for k, want := range [...]float64{release, flag} {
			list, name := w.Releases, "2"
			if k == 1 {
				list, name = w.Arms, "flag/x=on"
			}
			for _, sh := range list {
				if sh.Name != name {
					continue
				}
				found[k]++
				sum[k] += float64(sh.Excess)
				truth[k] += want
				if float64(sh.Lo) <= want && want <= float64(sh.Hi) {
					covered[k]++
				}
				if sh.Compared != sh.Total {
					t.Fatalf("%+v: not all compared", sh)
				}
			}
		}
	}
	for k, name := range []string{"release", "flag"} {
		share := float64(covered[k]) / runs
		bias := sum[k]/truth[k] - 1
		t.Logf("%s: estimate off by %.2f %% on the mean, intervals cover %.2f %%", name, 100*bias, 100*share)
		if found[k] != runs || math.Abs(bias) > 0.05 {
			t.Errorf("%s: found in %d of %d, off by %.1f %%, want within 5 %%", name, found[k], runs, 100*bias)
		}
		if math.Abs(share-0.95) > 0.01 {
			t.Errorf("%s: intervals cover %.2f %%, want 95 within 1", name, 100*share)
		}
	}
}

// TestWhoAddsUp gives a book random units of many releases, arms and strata, more
// than are told apart, late ones and sessions that fail later, and wants the parts
// to add up to the whole at all times.
func TestWhoAddsUp(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 5))
		o := testObjective(0.9)
		o.Unit = []string{UnitEvent, UnitSession}[seed%2]
		o.GroupBy = "release"
		b := NewBook(o, 0)
		w := newRows(t)
		now := int64(start) * 60_000
		for i := range 1000 {
			now += int64(r.IntN(120_000))
			release := ""
			if r.IntN(10) > 0 {
				release = string(rune('a'+r.IntN(26))) + string(rune('a'+r.IntN(26)))
			}
			late := int64(0)
			if r.IntN(5) == 0 {
				late = r.Int64N(3 * 3600_000)
			}
			w.row(b, release, "flag/x="+string(rune('a'+r.IntN(26)))+string(rune('a'+r.IntN(20))), string(rune('a'+r.IntN(26)))+string(rune('a'+r.IntN(26))), int(r.IntN(400)), now, now-late, r.IntN(4) == 0)
			if i%50 != 49 {
				continue
			}
			q := Question{At: now + 60_000}
			sp, err := b.Spending("t", q)
			if err != nil {
				t.Fatal(err)
			}
			who := sp.Who()
			all := b.All.Units.All()
			var groups Counts
			for _, g := range b.Groups {
				groups = groups.plus(g.Units.All())
			}
			if who.Total != all.Total || who.Bad != all.Bad || groups != all {
				t.Fatalf("seed %d: %d of %d by cohort, %+v by group, %+v of all", seed, who.Bad, who.Total, groups, all)
			}
			for name, list := range map[string][]Share{"releases": who.Releases, "strata": who.Strata} {
				var total, bad int64
				for _, sh := range list {
					total += sh.Total
					bad += sh.Bad
				}
				if total != all.Total || bad != all.Bad {
					t.Fatalf("seed %d: %s add up to %d of %d, want %d of %d", seed, name, bad, total, all.Bad, all.Total)
				}
			}
			err = b.Evaluate("t", q, func(s *verdict.SLOState) {
				if s.Group == "" && (s.Budget.Total != all.Total || s.Budget.Bad != all.Bad) {
					t.Fatalf("seed %d: budget %d of %d, want %d of %d", seed, s.Budget.Bad, s.Budget.Total, all.Bad, all.Total)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if len(b.Groups) > maxGroups || len(b.m.names[0]) > maxReleases || len(b.m.names[1]) > maxArms || len(b.m.names[2]) > maxStrata {
			t.Fatalf("seed %d: more is told apart than bounded", seed)
		}
	}
}
