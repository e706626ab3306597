package cell

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"serin.dev/serin/analysis/session"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/tenant"
)

// TestSum adds random sessions and compares sums over random ranges with counts
// by hand.
func TestSum(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	id, err := tenant.Stored("t")
	if err != nil {
		t.Fatal(err)
	}
	type fact struct {
		release string
		minute  int64
		failed  bool
		vitals  int
		counts  bool
	}
	var facts []fact
	s := NewStore()
	for i := range 3000 {
		f := fact{release: []string{"1", "2"}[rng.IntN(2)], minute: int64(rng.IntN(50)), failed: rng.IntN(5) == 0, vitals: rng.IntN(3), counts: rng.IntN(10) > 0}
		bc := event.Beacon{App: "shop", Release: event.Release(f.release), Session: fmt.Sprint(i), Ctx: event.Context{Device: []string{"mobile", "desktop"}[rng.IntN(2)]}}
		if !f.counts {
			bc.Tenancy = event.Synthetic
		}
		for range f.vitals {
			bc.Events = append(bc.Events, event.One{Kind: event.Vital, Name: "LCP", Value: 1 + 1000*rng.Float64(), HasVal: true})
		}
		bc.Events = append(bc.Events, event.One{Kind: event.View, Name: "/"})
		b := batch.New(batch.Partition{Tenant: id, App: "shop", Release: bc.Release})
		b.Append(1, 0, &bc)
		var failed []session.Metric
		if f.failed {
			failed = []session.Metric{session.Errors}
		}
		se := &session.Session{Key: session.Key{Tenant: "t", App: "shop", ID: bc.Session}, Entered: f.minute*60_000 + rng.Int64N(60_000)}
		s.Add(se, b, 0, b.Len(), true, failed)
		facts = append(facts, f)
	}
	for range 50 {
		lo, hi := int64(rng.IntN(50)), int64(rng.IntN(51))
		want := map[string][2]int64{} // exposed, failed
		for _, f := range facts {
			if !f.counts || f.minute < lo || f.minute >= hi {
				continue
			}
			for m := range session.Metrics {
				w := want[m.String()+f.release]
				w[0]++
				if m == session.Errors && f.failed {
					w[1]++
				}
				want[m.String()+f.release] = w
			}
			if f.vitals > 0 {
				w := want["vital:LCP"+f.release]
				w[0] += int64(f.vitals)
				want["vital:LCP"+f.release] = w
			}
		}
		got := s.Sum("t", "shop", lo*60_000, hi*60_000)
		if len(got) != len(want) {
			t.Fatalf("minutes %d to %d: %d rows, want %d", lo, hi, len(got), len(want))
		}
		for i, r := range got {
			if w := want[r.Metric+r.Release]; w != [2]int64{r.Exposed, r.Failed} {
				t.Errorf("minutes %d to %d, %s of %s: %d exposed, %d failed, want %v", lo, hi, r.Metric, r.Release, r.Exposed, r.Failed, w)
			}
			if i > 0 && (got[i-1].Metric > r.Metric || got[i-1].Metric == r.Metric && got[i-1].Release >= r.Release) {
				t.Errorf("row %d is out of order", i)
			}
			if (r.Values != nil) != (r.Metric == "vital:LCP") {
				t.Errorf("%s: values %v", r.Metric, r.Values)
			}
		}
	}
	if rows := s.Sum("another", "shop", 0, 1<<60); len(rows) != 0 {
		t.Errorf("another tenant sees %v", rows)
	}
	s.Forget(25*60_000 + Retention)
	for k := range s.Cells {
		if k.Minute < 25*60_000 {
			t.Fatalf("not forgotten: %+v", k)
		}
	}
	if len(s.Sum("t", "shop", 25*60_000, 1<<60)) == 0 {
		t.Error("all is forgotten")
	}
}
