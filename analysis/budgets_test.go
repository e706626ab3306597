package analysis

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
)

// flagRollout is of two stages, and names the objective whose budget guards it.
func flagRollout() canary.Rollout {
	long := canary.Duration(40 * time.Hour)
	return canary.Rollout{ID: "r", App: "shop", Change: "flag/x", Canary: "on", Baseline: "off", Stages: []canary.Stage{{Weight: 0.1, Deadline: long}, {Weight: 0.3, Deadline: long}},
		Policy: canary.Policy{SLOs: []string{"errors"}}}
}

// TestBudgetHoldsStage has an error budget run out under a rollout that is promoted.
func TestBudgetHoldsStage(t *testing.T) {
	h := newHouse(t)
	h.stop()
	h.slos = Objectives{"t": {shopObjective()}}
	h.start()
	r := flagRollout()
	r.Policy.SLOs = []string{"errors", "absent"}
	r.Policy.Budget = &canary.BudgetLimit{SLO: "gone", Spend: "10%"}
	if _, err := h.e.Create(t.Context(), owner(t), r); !errors.Is(err, canary.ErrInvalid) || !strings.Contains(err.Error(), `policy.slos: "absent": want one of errors`) || !strings.Contains(err.Error(), `policy.budget.slo: "gone": want one of errors`) {
		t.Errorf("%v", err)
	}
	if _, err := h.e.Create(t.Context(), owner(t), flagRollout()); err != nil {
		t.Fatal(err)
	}
	decide := func(decision string) {
		t.Helper()
		if _, err := h.e.Override(t.Context(), owner(t), "r", canary.Force{Decision: decision, Who: "ann", Why: "a test"}); err != nil {
			t.Fatal(err)
		}
	}
	is := func(d verdict.Decision, code verdict.Code) {
		t.Helper()
		h.until(d.String()+" for "+string(code), func(s Status) bool { return s.Verdict.Decision == d && s.Verdict.Reasons[0].Code == code })
	}
	rng := rand.New(rand.NewPCG(1, 1))
	h.day(rng, 0, 20, 1000)
	h.state("")
	decide("promote")
	is(verdict.Promote, verdict.Override)
	h.day(rng, 20, 45, 20)
	if s := h.state(""); s.Action != verdict.Freeze {
		t.Fatalf("the budget is not spent: %+v", s.Budget)
	}
	is(verdict.Hold, verdict.BudgetHolds)
	next := 1
	if _, err := h.e.SetStage(t.Context(), owner(t), "r", next); !errors.Is(err, ErrStage) || !strings.Contains(err.Error(), "of the error budget of errors is left, and its policy says freeze") {
		t.Errorf("the next stage under a freeze: %v", err)
	}
	for _, stage := range []*int{nil, &next} {
		if s, err := h.e.Gate(t.Context(), owner(t), "r", stage); err != nil || s.Decision() != verdict.Hold {
			t.Errorf("a gate under a freeze: %+v, %v", s, err)
		}
	}
	// Nothing new begins: not on the app, nor where a policy names the objective.
	plain, named, other := flagRollout(), flagRollout(), flagRollout()
	plain.ID, named.ID, other.ID = "plain", "named", "other"
	plain.Policy.SLOs, other.Policy.SLOs, named.App, other.App = nil, nil, "else", "else"
	refused := func(r canary.Rollout, want string) {
		t.Helper()
		_, err := h.e.Create(t.Context(), owner(t), r)
		_, planned := h.e.Apply(t.Context(), owner(t), "ci", nil, []canary.Rollout{r}, true)
		for _, err := range []error{err, planned} {
			if !errors.Is(err, ErrBudget) || !strings.Contains(err.Error(), r.ID) || !strings.Contains(err.Error(), want) {
				t.Errorf("rollout %s: %v, want %s", r.ID, err, want)
			}
		}
	}
	const says = "of the error budget of errors is left, and its policy says freeze: want an exception first (serin slo except errors)"
	refused(plain, says)
	refused(named, says)
	if _, err := h.e.Create(t.Context(), owner(t), other); err != nil {
		t.Errorf("a rollout of another app: %v", err)
	}
	// After a restart it is held still.
	h.stop()
	h.start()
	is(verdict.Hold, verdict.BudgetHolds)
	refused(plain, says)
	until := time.UnixMilli(h.now.Load()).UTC().Add(time.Hour)
	if err := h.e.Except(t.Context(), owner(t), "errors", verdict.SLOException{Who: "ann", Why: "less strict", Until: until.Add(-time.Minute), Action: verdict.Approval}); err != nil {
		t.Fatal(err)
	}
	refused(plain, "and its policy asks for an approval: want an exception first")
	if err := h.e.Except(t.Context(), owner(t), "errors", verdict.SLOException{Who: "ann", Why: "the repair", Until: until}); err != nil {
		t.Fatal(err)
	}
	is(verdict.Promote, verdict.Override)
	if s, err := h.e.SetStage(t.Context(), owner(t), "r", next); err != nil || s.Stage != 1 {
		t.Errorf("the next stage under an exception: %v", err)
	}
	if _, err := h.e.Apply(t.Context(), owner(t), "ci", nil, []canary.Rollout{plain}, false); err != nil {
		t.Errorf("a beginning under an exception: %v", err)
	}
	h.now.Add(2 * 3600_000)
	is(verdict.Hold, verdict.BudgetHolds)
	refused(named, says)
	// A smaller share and a rollback are nobody's to keep back.
	if s, err := h.e.SetStage(t.Context(), owner(t), "r", 0); err != nil || s.Stage != 0 {
		t.Errorf("back under a freeze: %v", err)
	}
	decide("rollback")
	is(verdict.Rollback, verdict.Override)
	h.stop()
	h.again(6)
}

// spendingRollout is of a release, may spend a hundredth of an objective's budget, and
// no critical guardrail sees its errors.
func spendingRollout(objective string) canary.Rollout {
	no := false
	r := flagRollout()
	r.Change, r.Canary, r.Baseline = "release/2", "2", "1"
	r.Stages[0].Weight, r.Stages[1].Weight = 0.5, 0.6
	r.Policy = canary.Policy{Guardrails: map[string]canary.Guardrail{"error_free": {Critical: &no}}, Budget: &canary.BudgetLimit{SLO: objective, Spend: "1%"}}
	return r
}

// TestSpend has a canary spend its part of an error budget, which no guardrail that is
// critical sees, over a restart.
func TestSpend(t *testing.T) {
	h := newHouse(t)
	h.stop()
	events := shopObjective()
	events.Name, events.Unit = "by-event", slo.UnitEvent
	events.Total = slo.Selector{}
	h.slos = Objectives{"t": {shopObjective(), events}}
	h.start()
	r := spendingRollout("by-event")
	if _, err := h.e.Create(t.Context(), owner(t), r); !errors.Is(err, canary.ErrInvalid) || !strings.Contains(err.Error(), "whose unit is session or user") {
		t.Errorf("events: %v", err)
	}
	r.Policy.Budget.SLO = "errors"
	if _, err := h.e.Create(t.Context(), owner(t), r); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	h.day(rng, 0, 50, 65)
	s := h.until("a verdict", func(s Status) bool { return s.Verdict.Sessions.Canary > 400 })
	if sp := s.Verdict.Spend; sp == nil || sp.Refused == "" || sp.Compared < 400 || float64(sp.Lo) > sp.Limit {
		t.Errorf("healthy: %+v", sp)
	}
	h.stop()
	h.start()
	h.day(rng, 50, 110, 65)
	s = h.until("rollback", func(s Status) bool { return s.Verdict.Decision == verdict.Rollback })
	sp := s.Verdict.Spend
	if s.Verdict.Reasons[0].Code != verdict.Overspent || sp == nil || float64(sp.Lo) <= sp.Limit || float64(sp.Excess) > float64(sp.Bad) || sp.Limit < 0.0099*sp.Allowed || sp.Limit > 0.0101*sp.Allowed {
		t.Errorf("%+v %+v", s.Verdict.Reasons, sp)
	}
	if !strings.Contains(s.Verdict.Sentence, "Roll back release/2: it spent") || !strings.Contains(s.Verdict.Sentence, "of the error budget of errors") {
		t.Error(s.Verdict.Sentence)
	}
	// A budget of the month at 20 sessions a minute, of which 1 % may fail.
	if want := 0.01 * 20 * 60 * 24 * 30; sp.Allowed < 0.9*want || sp.Allowed > 1.1*want {
		t.Errorf("%v allowed, want about %v", sp.Allowed, want)
	}
	h.stop()
	replayed := h.again(2)
	if past, err := Explain(t.Context(), h.segments, "t", "r"); err != nil || past.Verdict.Spend == nil || len(past.History) != len(replayed) {
		t.Errorf("%v %+v", err, past.Verdict.Spend)
	}
	// Under a policy of a hundred times the budget nothing would have been decided.
	lax := r.Policy
	lax.Budget = &canary.BudgetLimit{SLO: "errors", Spend: "100%"}
	d, err := Try(t.Context(), h.segments, "t", "r", lax)
	if err != nil {
		t.Fatal(err)
	}
	given, was := Final(d.Given, 0)
	if _, is := Final(d.Would, 0); !was || given.Reasons[0].Code != verdict.Overspent || is {
		t.Errorf("given %+v, would %+v", given.Reasons, d.Would)
	}
}

// TestSpendOfOneNetwork has one network send failing sessions of the canary until they
// are over what the rollout may spend, and then everybody fail, over a restart.
func TestSpendOfOneNetwork(t *testing.T) {
	h := newHouse(t)
	h.stop()
	h.slos = Objectives{"t": {shopObjective()}}
	h.start()
	r := spendingRollout("errors")
	if _, err := h.e.Create(t.Context(), owner(t), r); err != nil {
		t.Fatal(err)
	}
	rng, n := rand.New(rand.NewPCG(1, 1)), 0
	minutes := func(count, forged int, broken float64) {
		t.Helper()
		for range count {
			base := h.now.Load()
			var all []event.Beacon
			one := func(network, release string, fails bool) {
				n++
				at := base + int64(len(all))*1000
				b := event.Beacon{SDK: "a/1", App: "shop", Release: event.Release(release), Session: fmt.Sprint("s", n), Received: at, Sent: at, Arms: []event.Arm{{Change: "release/2", Variant: map[string]string{"1": "baseline", "2": "canary"}[release]}},
					Ctx: event.Context{Platform: "web", Device: "mobile", Prefix: network}, Events: []event.One{{Kind: event.View, Name: "/", Time: at}}}
				if fails {
					b.Events = append(b.Events, event.One{Kind: event.Error, Name: "TypeError", Time: at})
				}
				all = append(all, b)
			}
			for k := range 20 {
				release := []string{"1", "2"}[k%2]
				one(fmt.Sprint("net", rng.IntN(40)), release, rng.IntN(100) < 2 || release == "2" && rng.Float64() < broken)
			}
			for range forged {
				one("forger", "2", true)
				one("forger", "1", false) // so that the sample ratio is as planned
			}
			h.minute(all, base+60_000)
		}
	}
	minutes(70, 0, 0)
	minutes(40, 8, 0)
	s := h.until("held because of one network", func(s Status) bool { return s.Verdict.Reasons[0].Code == verdict.Influence })
	a := s.Verdict.Spend.Alone
	if s.Verdict.Decision != verdict.Hold || a == nil || a.Prefix != "forger" || a.Canary != a.Bad || a.Bad < 100 || a.Baseline != a.Bad || float64(a.Lo) > s.Verdict.Spend.Limit || float64(s.Verdict.Spend.Lo) <= s.Verdict.Spend.Limit {
		t.Errorf("%+v %+v %+v", s.Verdict.Reasons, s.Verdict.Spend, a)
	}
	if want := `rests on the network "forger"`; !strings.Contains(s.Verdict.Reasons[0].Text, want) {
		t.Errorf("%s: want %s", s.Verdict.Reasons[0].Text, want)
	}
	h.stop()
	h.start()
	h.until("held after a restart", func(s Status) bool { return s.Verdict.Reasons[0].Code == verdict.Influence })
	minutes(60, 0, 0.6)
	s = h.until("rollback", func(s Status) bool { return s.Verdict.Decision == verdict.Rollback })
	if s.Verdict.Reasons[0].Code != verdict.Overspent || s.Verdict.Spend.Alone == nil || float64(s.Verdict.Spend.Alone.Lo) <= s.Verdict.Spend.Limit {
		t.Errorf("%+v %+v", s.Verdict.Reasons, s.Verdict.Spend)
	}
	h.stop()
	h.again(3)
}
