package analysis

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/store/journal"
)

// named names verdicts as a deliverer does that does not tell each.
func named(_, v *verdict.Verdict) string {
	if v.Number%4 == 0 {
		return ""
	}
	return fmt.Sprintf("%s/%d", v.Rollout, v.Number)
}

// scan is what [Engine.Undelivered] must return, read from all records.
func scan(e *Engine, tenant, target string, since time.Time) (all []Given) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for k := range e.records {
		for _, g := range e.given(k) {
			id := named(g.Previous, &g.Verdict)
			if k.Tenant == tenant && id != "" && g.Verdict.IssuedAt.After(since) && !e.told(deliveryKey{tenant, target, id}) {
				all = append(all, g)
			}
		}
	}
	slices.SortFunc(all, func(a, b Given) int {
		return cmp.Or(cmp.Compare(a.Verdict.Rollout, b.Verdict.Rollout), cmp.Compare(a.Verdict.Number, b.Verdict.Number))
	})
	return all
}

// TestUndelivered plays random verdicts, reports, repetitions and restarts: what is
// still to be told is what all records together say.
func TestUndelivered(t *testing.T) {
	h := newHouse(t)
	r := rand.New(rand.NewPCG(1, 1))
	tenants, targets := []string{"t", "u"}, []string{"first", "second"}
	numbers := map[rolloutKey]uint64{}
	var since time.Time
	waited := 0
	for step := range 600 {
		at := time.UnixMilli(h.now.Add(1000)).UTC()
		k := rolloutKey{tenants[r.IntN(2)], fmt.Sprintf("r%d", r.IntN(5))}
		switch x := r.IntN(100); {
		case x < 40:
			numbers[k]++
			v := verdict.Verdict{Tenant: k.Tenant, Rollout: k.ID, Number: numbers[k], IssuedAt: at}
			h.e.mu.Lock()
			_, err := h.e.record(t.Context(), Record{Type: TypeVerdict, Tenant: k.Tenant, ID: k.ID, At: at.UnixMilli(), Verdict: &v})
			h.e.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
		case x < 98 && numbers[k] > 0:
			outcome := []string{delivered, "expired", Replay, Escalated}[r.IntN(4)]
			d := Delivery{Target: targets[r.IntN(2)], Message: fmt.Sprintf("%s/%d", k.ID, 1+r.Uint64N(numbers[k])), Outcome: outcome}
			if err := h.e.RecordDelivery(t.Context(), k.Tenant, k.ID, d); err != nil {
				t.Fatal(err)
			}
		case x == 98:
			h.stop()
			h.start()
		case x == 99:
			since = at.Add(-time.Minute)
		}
		if step < 100 {
			continue // a target is first asked about when there is something
		}
		for _, tenant := range tenants {
			for _, target := range targets {
				got, want := h.e.Undelivered(tenant, target, since, named), scan(h.e, tenant, target, since)
				if waited += len(want); !reflect.DeepEqual(got, want) {
					t.Fatalf("step %d, %s of %s: %d, want %d", step, target, tenant, len(got), len(want))
				}
			}
		}
	}
	if waited == 0 {
		t.Error("nothing was ever to be told")
	}
}

// TestReportsTogether: what is reported while a record is written is one record, of
// each tenant, and comes back as the reports that it stands for.
func TestReportsTogether(t *testing.T) {
	h := newHouse(t)
	before := h.recorded()
	h.e.mu.Lock() // as a record that is being written
	var wg sync.WaitGroup
	const each = 20
	for i := range 2 * each {
		wg.Go(func() {
			d := Delivery{Target: "x", Message: fmt.Sprint(i), Outcome: delivered, Tries: i}
			if err := h.e.RecordDelivery(t.Context(), []string{"t", "u"}[i/each], "r", d); err != nil {
				t.Error(err)
			}
		})
		for n := -1; n != i+1; { // in their order
			h.e.reports.mu.Lock()
			n = len(h.e.reports.waiting)
			h.e.reports.mu.Unlock()
		}
	}
	h.e.mu.Unlock()
	wg.Wait()
	if n := h.recorded() - before; n != 2 {
		t.Errorf("%d records of %d reports of two tenants", n, 2*each)
	}
	for _, when := range []string{"written", "read again"} {
		for i, tenant := range []string{"t", "u"} {
			all := h.e.Deliveries(tenant, time.Time{})
			if len(all) != each {
				t.Errorf("%s: %d deliveries of %s", when, len(all), tenant)
			}
			for _, told := range all {
				if told.Rollout != "r" || fmt.Sprint(told.Tries) != told.Message || told.Tries/each != i {
					t.Errorf("%s: %+v", when, told)
				}
			}
		}
		h.stop()
		h.start()
	}
	err := h.control.Scan(t.Context(), before+1, h.recorded(), func(m journal.Message) error {
		r, err := ParseRecord(m.Data)
		if r.Type != TypeDeliveries || r.ID != DeliveryLedger || len(r.Reports) != each || r.Delivery != nil {
			t.Errorf("%s", m.Data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
