package canary

import (
	"math/rand/v2"
	"slices"
	"testing"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/session"
)

// TestThinEpochs: how long an epoch stays open.
func TestThinEpochs(t *testing.T) {
	const epoch = 5000
	for _, c := range []struct {
		name     string
		sessions [2]int64 // of the stratum
		entered  [2]int32
		age      int64
		start    int64
		want     bool
	}{
		{"few", [2]int64{4, 3}, [2]int32{4, 3}, epoch, 1e6, true},
		{"enough at first", [2]int64{5, 3}, [2]int32{5, 3}, epoch, 1e6, false},
		{"of one arm", [2]int64{8, 0}, [2]int32{8, 0}, epoch, 1e6, false},
		{"less than an eighth", [2]int64{150, 50}, [2]int32{20, 4}, epoch, 1e6, true},
		{"an eighth", [2]int64{150, 50}, [2]int32{20, 5}, epoch, 1e6, false},
		{"of many", [2]int64{1e6, 1e6}, [2]int32{40, 23}, epoch, 1e6, true},
		{"enough of many", [2]int64{1e6, 1e6}, [2]int32{40, 24}, epoch, 1e6, false},
		{"few for long", [2]int64{1, 0}, [2]int32{1, 0}, thinLongest - epoch, 1e6, true},
		{"few for too long", [2]int64{1, 0}, [2]int32{1, 0}, thinLongest, 1e6, false},
		{"while a weight settles", [2]int64{1, 0}, [2]int32{1, 0}, epoch, 1e6 - 1, false},
	} {
		st := Stratum{Sessions: c.sessions}
		if got := st.thin(&Epoch{Start: c.start, Entered: c.entered}, moment{current: c.start + c.age, settled: 1e6}, thinFirst); got != c.want {
			t.Errorf("%s: stays open %v, want %v", c.name, got, c.want)
		}
	}
	// A customer's first ones are larger.
	for n, want := range map[int32]bool{thinCustomer - 1: true, thinCustomer: false} {
		st := Stratum{Sessions: [2]int64{int64(n), 0}}
		if got := st.thin(&Epoch{Start: 1e6, Entered: [2]int32{n, 0}}, moment{current: 1e6 + epoch, settled: 1e6}, thinCustomer); got != want {
			t.Errorf("a customer's first %d sessions: stays open %v, want %v", n, got, want)
		}
	}
}

// TestEpochsKnowNoOutcome: when epochs end does not depend on the arms of
// sessions, or on what failed; a session of whatever time has the one that is open.
func TestEpochsKnowNoOutcome(t *testing.T) {
	const epoch = 1000
	ends := func(seed uint64, fails float64) (starts []int64) {
		times, draws := rand.New(rand.NewPCG(1, 1)), rand.New(rand.NewPCG(seed, 2))
		g, st := evalue.NewGrid(), Stratum{}
		now := int64(1e9)
		for range 3000 {
			before := now
			now += times.Int64N(600)
			if current := now - now%epoch; current > before-before%epoch {
				st.score(g, moment{current: current, forget: current - session.TTL}, thinFirst, &ledger{failers: &Networks{}, senders: &Networks{}}, 0)
			}
			late := times.Int64N(3) * 400 // a clock that was set back
			ep := st.open(now - late - (now-late)%epoch)
			if n := len(st.Open); ep != &st.Open[n-1] || ep.Closed || n > 1 && !st.Open[n-2].Closed {
				t.Fatal("a session joins an epoch that is not the newest, open one")
			}
			arm := draws.IntN(2)
			ep.enter("", arm, func(session.Metric) bool { return true })
			st.Sessions[arm]++
			if draws.Float64() < fails {
				st.fail(ep.Start, session.Errors, arm, "")
			}
			if len(starts) == 0 || starts[len(starts)-1] != ep.Start {
				starts = append(starts, ep.Start)
			}
		}
		return starts
	}
	want := ends(1, 0.1)
	if len(want) < 20 || len(want) > 200 {
		t.Errorf("%d epochs of 3,000 sessions", len(want))
	}
	if !slices.IsSorted(want) {
		t.Error("epochs do not rise")
	}
	for seed, fails := range []float64{0, 0.1, 0.9} {
		if got := ends(uint64(seed)+2, fails); !slices.Equal(got, want) {
			t.Errorf("other arms and failures: %d epochs, not %d", len(got), len(want))
		}
	}
}

// TestStageEndsEpochs: sessions of two stages share no epoch, in no stratum and for
// no customer.
func TestStageEndsEpochs(t *testing.T) {
	test := NewTest("t", rollout(t, func(r *Rollout) {
		r.Stages = append(r.Stages, Stage{Weight: 0.5, Deadline: r.Stages[0].Deadline, Dwell: r.Stages[0].Dwell, MinSessions: 1})
	}), 0)
	for _, all := range []*[]Stratum{&test.Strata, &test.Parts} {
		*all = []Stratum{{Name: "a"}, {Name: "b"}}
		(*all)[0].open(1000)
	}
	test.SetStage(1, 1500)
	for _, all := range [][]Stratum{test.Strata, test.Parts} {
		first, second := &all[0].Open[0], all[0].open(1000)
		if first = &all[0].Open[0]; !first.Closed || second.Start <= first.Start || second.Closed {
			t.Errorf("%+v\n%+v", first, second)
		}
	}
}
