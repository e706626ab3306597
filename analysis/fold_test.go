package analysis

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/store/segment"
	"serin.dev/serin/internal/tenant"
)

func owner(t testing.TB) tenant.ID {
	t.Helper()
	id, err := tenant.Stored("t")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// busy is a rollout that uses all there is to use.
func busy(t testing.TB) canary.Rollout {
	t.Helper()
	r := canary.Rollout{ID: "r", App: "shop", Change: "release/2", Canary: "2", Baseline: "1", Stages: []canary.Stage{{Weight: 0.3, Deadline: canary.Duration(time.Hour)}},
		Policy: canary.Policy{Epoch: canary.Duration(time.Second), SilenceAfter: canary.Duration(3 * time.Second), ReportAfter: canary.Duration(8 * time.Second), Tenants: "env", Settle: 1,
			Guardrails: map[string]canary.Guardrail{"error_free": {Unit: canary.UnitUser}, "lcp_good": {Direction: canary.DirectionEither}, "requests_ok": {Evidence: canary.EvidenceTwoSample},
				"lcp_p75":         {Kind: canary.KindQuantile, Metric: "vital/LCP", Quantile: 0.75},
				"inp_mean":        {Kind: canary.KindMean, Metric: "vital/INP", Bound: 5000, Margin: 300, Take: canary.TakeMax},
				"cls_mean":        {Kind: canary.KindMean, Metric: "vital/CLS", Margin: 100, Take: canary.TakeLast},
				"errors_per_view": {Kind: canary.KindRatio, Metric: "error", Per: "exposure", Margin: 0.1}}}}
	if err := r.Normalize(); err != nil {
		t.Fatal(err)
	}
	return r
}

// beacons draws sessions of a busy app, in the order of their arrival: with
// repetitions, gaps, silence, drops, several networks, users and customers.
func beacons(seed uint64, sessions int) (all []event.Beacon) {
	rng := rand.New(rand.NewPCG(seed, 2))
	at := func(i, ms int64) int64 { return 1_764_000_000_000 + i*25 + ms }
	byTime := map[int64][]event.Beacon{}
	var last int64
	for i := range int64(sessions) {
		arm := []string{"baseline", "canary"}[min(rng.IntN(10)/7, 1)]
		bc := event.Beacon{SDK: []string{"a/1", "b/2"}[rng.IntN(2)], App: "shop", Release: event.Release([]string{"1", "2"}[rng.IntN(2)]), Session: fmt.Sprint("s", i), User: fmt.Sprint("u", rng.IntN(sessions/3)),
			Arms: []event.Arm{{Change: "release/2", Variant: arm}},
			Ctx:  event.Context{Platform: "web", Device: []string{"mobile", "desktop", "tablet"}[rng.IntN(3)], Prefix: fmt.Sprint("n", rng.IntN(90)), Env: fmt.Sprint("c", rng.IntN(5))}}
		for seq := range uint32(1 + rng.IntN(4)) {
			if seq > 0 && rng.IntN(30) == 0 {
				continue // lost on the way
			}
			bc.Seq, bc.Received = seq, at(i, int64(seq)*int64(300+rng.IntN(4000)))
			bc.Sent, bc.Drops = bc.Received, nil
			now := bc.Received
			bc.Events = []event.One{{Kind: event.Exposure, Name: "release/2", Time: now}}
			if seq > 0 {
				bc.Events = []event.One{{Kind: event.Vital, Name: []string{"LCP", "INP", "CLS"}[rng.IntN(3)], Value: 4000 * rng.Float64(), HasVal: true, Time: now}}
				if rng.IntN(12) == 0 || arm == "canary" && rng.IntN(3) == 0 {
					bc.Events = append(bc.Events, event.One{Kind: event.Error, Name: "TypeError", Time: now})
				}
				if rng.IntN(40) == 0 {
					bc.Drops = []event.Dropped{{Cause: []string{"vital/queue", "shed/vital"}[rng.IntN(2)], Count: 1}}
				}
			}
			copies := 1 + rng.IntN(10)/9
			for range copies {
				byTime[now] = append(byTime[now], bc)
			}
			last = max(last, now)
		}
	}
	for now := at(0, 0); now <= last; now++ {
		all = append(all, byTime[now]...)
	}
	return all
}

// foldAll folds the beacons as the engine does: in groups and segments of sizes
// drawn from seed, with a checkpoint written and read now and then. It looks
// after every 400 beacons, and returns what it saw.
func foldAll(t testing.TB, all []event.Beacon, seed uint64, restarts bool) (verdicts []verdict.Verdict) {
	t.Helper()
	rng, id, k := rand.New(rand.NewPCG(seed, 3)), owner(t), rolloutKey{"t", "r"}
	f := newFold()
	r := busy(t)
	f.apply(Record{Type: TypeRollout, Tenant: "t", ID: "r", At: 1_764_000_000_000, Rollout: &r})
	batches := map[batch.Partition]*batch.Batch{}
	path := filepath.Join(t.TempDir(), "checkpoint")
	for n, position := 0, uint64(1); n < len(all); position++ {
		var g batch.Group
		for size := 1 + rng.IntN(60); size > 0 && n < len(all); size-- {
			g.Add(id, &all[n])
			if n++; n%400 == 0 {
				break // so that all look at the same places
			}
		}
		ordinal := 0
		err := batch.ReadGroup(g.Seal(), func(id tenant.ID, b *event.Beacon) error {
			ordinal++
			s, admission := f.Table.Admit(session.Key{Tenant: "t", App: b.App, ID: b.Session}, b.Seq, b.Received)
			if admission == session.Duplicate {
				return nil
			}
			p := batch.Partition{Tenant: id, App: b.App, Release: b.Release}
			if batches[p] == nil {
				batches[p] = batch.New(p)
			}
			lo := batches[p].Len()
			batches[p].Append(position, ordinal, b)
			f.beacon(s, admission == session.First, batches[p], lo, batches[p].Len())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if rng.IntN(10) == 0 {
			batches = map[batch.Partition]*batch.Batch{} // sealed
		}
		if restarts && rng.IntN(12) == 0 {
			data, err := encodeCheckpoint(checkpoint{Version: checkpointVersion, Position: position, Fold: f}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := segment.WriteFile(path, data); err != nil {
				t.Fatal(err)
			}
			cp, err := loadCheckpoint(path)
			if err != nil {
				t.Fatal(err)
			}
			f = cp.Fold
		}
		if n%400 == 0 || n == len(all) {
			verdicts = append(verdicts, f.Tests[k].Decide(canary.Question{At: all[n-1].Received}))
		}
	}
	return verdicts
}

// TestDeterminism folds the same journal in other groups, segments and with
// other restarts: the verdicts are the same, bit for bit.
func TestDeterminism(t *testing.T) {
	all := beacons(1, 1500)
	want := foldAll(t, all, 0, false)
	if final := want[len(want)-1]; len(want) < 8 || len(final.Blame) == 0 || final.Network.Networks < 20 || final.Losses[session.Gap].Lost.Baseline == 0 {
		t.Fatalf("%d verdicts, the last one without much to compare: %+v", len(want), final)
	}
	for seed := range uint64(2) {
		got := foldAll(t, all, seed+1, seed > 0)
		for i := range want {
			if a, b := asJSON(t, got[i]), asJSON(t, want[i]); a != b {
				t.Fatalf("seed %d, verdict %d:\n%s\nis not\n%s", seed, i, a, b)
			}
		}
	}
}

// TestArrivalOrder has beacons that were received within the same 100 ms come
// in another order. Sums of the same numbers in another order differ in their
// last bits, and no more: decisions, reasons and counts are equal, evidence is
// within 1e-9.
func TestArrivalOrder(t *testing.T) {
	all := beacons(2, 1000)
	want := foldAll(t, all, 0, false)
	rng, moved := rand.New(rand.NewPCG(5, 5)), 0
	for lo := 0; lo < len(all); {
		hi := lo
		for hi < len(all) && all[hi].Received/100 == all[lo].Received/100 {
			hi++
		}
		// Sessions of one user stay in order: which of them is the first one is
		// a fact and no artifact.
		part := all[max(lo, 1):hi] // the very first SDK has the strata without a name of its own
		rng.Shuffle(len(part), func(i, j int) {
			for q := min(i, j); q <= max(i, j); q++ {
				if q != i && part[q].User == part[i].User || q != j && part[q].User == part[j].User {
					return
				}
			}
			if i != j {
				part[i], part[j] = part[j], part[i]
				moved++
			}
		})
		lo = hi
	}
	if moved < 500 {
		t.Fatalf("only %d moved", moved)
	}
	got := foldAll(t, all, 0, false)
	a, b := &want[len(want)-1], &got[len(got)-1]
	if a.Decision != b.Decision || a.Reasons[0].Code != b.Reasons[0].Code || a.Sessions != b.Sessions || math.Abs(float64(a.LogEHarm-b.LogEHarm)) > 1e-9 {
		t.Errorf("%v %v %v %v\nis not\n%v %v %v %v", b.Decision, b.Reasons, b.Sessions, b.LogEHarm, a.Decision, a.Reasons, a.Sessions, a.LogEHarm)
	}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
