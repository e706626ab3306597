package analysis

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

func shopObjective() slo.Objective {
	o := slo.Objective{Name: "errors", Service: "shop", App: "shop", Tenancy: "production", Unit: slo.UnitSession, Bad: &slo.Selector{Fails: "error_free"}, Method: slo.Occurrences, Target: 0.99,
		Window: slo.Window{Count: 1, Unit: "M", Start: "2025-01-01 00:00:00", Zone: "Europe/Berlin"}, GroupBy: "release", Strata: []string{"device"}, MinUnits: 10, MinClients: 3, Lateness: 5 * time.Minute,
		Policy: []slo.Rule{{Remaining: 0, Action: verdict.Freeze}, {Remaining: 0.5, Action: verdict.Approval}}}
	o.Alerts = slo.Defaults(o.Target, o.Window.Period(), 0)
	return o
}

// day sends minutes of sessions of two releases, of which the second fails from a
// minute on, and lets the engine look at each minute.
func (h *house) day(r *rand.Rand, from, to, broken int) {
	h.t.Helper()
	base := h.now.Load()
	for m := from; m < to; m++ {
		var all []event.Beacon
		for k := range 20 {
			at := base + int64(m-from)*60_000 + int64(k)*3000
			release := event.Release([]string{"1", "2"}[k%2])
			b := event.Beacon{SDK: "a/1", App: "shop", Release: release, Session: fmt.Sprintf("s%d-%d", m, k), Received: at, Sent: at, Arms: []event.Arm{{Change: "release/2", Variant: []string{"baseline", "canary"}[k%2]}},
				Ctx: event.Context{Platform: "web", Device: []string{"mobile", "desktop"}[r.IntN(2)]}, Events: []event.One{{Kind: event.View, Name: "/", Time: at}}}
			if release == "2" && m >= broken && r.IntN(10) < 8 || r.IntN(200) == 0 {
				b.Events = append(b.Events, event.One{Kind: event.Error, Name: "TypeError", Time: at})
			}
			if r.IntN(40) == 0 { // from a queue that was offline
				b.Events[0].Time -= 3 * 3600_000
			}
			all = append(all, b)
		}
		h.minute(all, base+int64(m+1-from)*60_000)
	}
}

// state waits until a group's state is as of now.
func (h *house) state(group string) verdict.SLOState {
	h.t.Helper()
	for range 1000 {
		for _, s := range h.e.SLOs(owner(h.t), "errors") {
			if s.Group == group && s.DataThrough.Unix() == h.now.Load()/60_000*60 {
				return s
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.t.Fatalf("no state of %q: %+v", group, h.e.SLOs(owner(h.t), ""))
	return verdict.SLOState{}
}

// TestObjectives has a release break its objective's budget, through a restart
// from the checkpoint and one from nothing but the logs, and wants the same states
// of the segments.
func TestObjectives(t *testing.T) {
	h := newHouse(t)
	h.stop()
	h.slos = Objectives{"t": {shopObjective()}}
	h.start()
	r := rand.New(rand.NewPCG(1, 1))
	h.day(r, 0, 45, 60)
	if s := h.state(""); s.Incident != nil || s.Data != verdict.DataOK || s.Budget.Total < 800 || s.Action != verdict.Allow {
		t.Errorf("%+v", s)
	}
	h.stop()
	h.start()
	h.day(r, 45, 80, 60)
	all, bad := h.state(""), h.state("2")
	if all.Incident == nil || all.Incident.Severity != verdict.SeverityPage || bad.Incident == nil || bad.Number < 1 || h.state("1").Incident != nil || all.Action != verdict.Freeze || all.Budget.Restated.Total == 0 {
		t.Errorf("all %+v\nrelease 2 %+v", all, bad)
	}
	if since := all.At.Sub(all.Incident.Since); since < 10*time.Minute || since > 20*time.Minute {
		t.Errorf("the incident began %v ago", since)
	}
	w, err := h.e.WhoSpent(owner(t), "errors")
	if err != nil || w.Releases[0].Name != "2" || w.Total != w.Releases[0].Total+w.Releases[1].Total || w.Bad != w.Releases[0].Bad+w.Releases[1].Bad || float64(w.Releases[0].Lo) < 100 || w.Arms[0].Name != "release/2=canary" || float64(w.Arms[0].Lo) < 100 {
		t.Errorf("%v %+v", err, w)
	}
	// An exception goes before the policy, for its time, and is recorded.
	until := time.UnixMilli(h.now.Load()).UTC().Add(time.Hour)
	for want, x := range map[string]verdict.SLOException{"why": {Who: "ann", Until: until}, "until": {Why: "x", Until: until.Add(-2 * time.Hour)}, "action": {Why: "x", Until: until, Action: verdict.Freeze}} {
		if err := h.e.Except(t.Context(), owner(t), "errors", x); !errors.Is(err, ErrException) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := h.e.Except(t.Context(), owner(t), "absent", verdict.SLOException{Who: "ann", Why: "x", Until: until}); !errors.Is(err, ErrNoObjective) {
		t.Errorf("%v", err)
	}
	if err := h.e.Except(t.Context(), owner(t), "errors", verdict.SLOException{Who: "ann", Why: "the repair", Until: until}); err != nil {
		t.Fatal(err)
	}
	if s := h.state(""); s.Action != verdict.Allow || s.Exception == nil || s.Exception.Who != "ann" {
		t.Errorf("%+v", s)
	}
	h.now.Add(2 * 3600_000)
	if s := h.state(""); s.Action != verdict.Freeze || s.Exception != nil || s.Data != verdict.NoTraffic {
		t.Errorf("after the exception: %+v", s)
	}
	other, err := tenant.Stored("u")
	if err != nil {
		t.Fatal(err)
	}
	if got := h.e.SLOs(other, ""); len(got) != 0 {
		t.Errorf("another tenant sees %+v", got)
	}
	h.stop()
	replayed, err := BacktestSLO(t.Context(), h.segments, "t", "errors")
	if err != nil || len(replayed) < 5 {
		t.Fatalf("%d states, %v", len(replayed), err)
	}
	for _, r := range replayed {
		if !r.Equal {
			t.Errorf("state %d of %q differs:\n%s\n%s", r.Given.Number, r.Given.Group, asJSON(t, r.Given), asJSON(t, r.Again))
		}
	}
	if ids, err := Recorded(h.segments, "t"); err != nil || len(ids) != 0 {
		t.Errorf("rollouts recorded: %v %v", ids, err)
	}
	// Objectives that are configured no more are dropped.
	h.slos = nil
	h.start()
	if got := h.e.SLOs(owner(t), ""); len(got) != 0 {
		t.Errorf("dropped, and there: %+v", got)
	}
}
