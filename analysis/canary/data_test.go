package canary

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
)

func number(t *testing.T, bc *event.Beacon) int {
	t.Helper()
	var i int
	if _, err := fmt.Sscanf(bc.Session, "session-%d", &i); err != nil {
		t.Fatal(err)
	}
	return i
}

// spread gives each session one of 200 networks.
func spread(t *testing.T, bc *event.Beacon) {
	bc.Ctx.Prefix = fmt.Sprintf("n%d", number(t, bc)%200)
}

// TestForgedBurst has one network send failing sessions in the canary's name.
// With them the evidence suffices for a rollback, and without them there is
// none: that is a hold, for the reason, and names the network.
func TestForgedBurst(t *testing.T) {
	r := rollout(t, func(r *Rollout) { r.Stages[0].MinSessions, r.Policy.RatioAlpha = 1e9, 1e-9 })
	forged := func(i int) bool { return i > 2000 && i%12 == 0 }
	fails := func(bool, string, float64) bool { return false }
	v := simulateAs(t, r, 6, 5000, 0.2, fails, func(bc *event.Beacon, canary bool) {
		spread(t, bc)
		if i := number(t, bc); i%100 == 0 && bc.Seq == 1 { // honest failures of both arms
			bc.Events = []event.One{{Kind: event.Error, Name: "TypeError", Time: bc.Received}}
		} else if forged(i) && canary {
			bc.Ctx.Prefix = "forger"
			if bc.Seq == 1 {
				bc.Events = []event.One{{Kind: event.Error, Name: "Forged", Time: bc.Received}}
			}
		}
	})
	if v.Decision != verdict.Hold || v.Reasons[0].Code != verdict.Influence || v.Network.Prefix != "forger" || float64(v.LogEHarm) < v.LogNeeded {
		t.Errorf("%s %+v, harm %v of %v, network %+v", v.Decision, v.Reasons, v.LogEHarm, v.LogNeeded, v.Network)
	}
	if !strings.Contains(v.Sentence, `"forger"`) {
		t.Error(v.Sentence)
	}
	// The same failures from everywhere roll back.
	v = simulateAs(t, r, 6, 5000, 0.2, fails, func(bc *event.Beacon, canary bool) {
		spread(t, bc)
		if i := number(t, bc); bc.Seq == 1 && (i%100 == 0 || forged(i) && canary) {
			bc.Events = []event.One{{Kind: event.Error, Name: "TypeError", Time: bc.Received}}
		}
	})
	if v.Decision != verdict.Rollback || v.Reasons[0].Code != verdict.Harm {
		t.Errorf("harm from everywhere: %s %+v", v.Decision, v.Reasons)
	}
	if !v.Network.Judged || float64(v.Network.LogE) < v.LogNeeded {
		t.Errorf("network: %+v", v.Network)
	}
}

// TestForgedGoodness has one network send most of the sessions, all of them
// well: without it there is no proof that the canary is below the floor.
func TestForgedGoodness(t *testing.T) {
	r := rollout(t, func(r *Rollout) {
		r.Policy.Guardrails = map[string]Guardrail{}
		for m := range session.Metrics {
			r.Policy.Guardrails[m.String()] = Guardrail{Optional: m != session.Errors, Floor: 0.02}
		}
	})
	flood := func(share int) func(*event.Beacon, bool) {
		return func(bc *event.Beacon, canary bool) {
			spread(t, bc)
			if number(t, bc)%100 < share {
				bc.Ctx.Prefix = "forger"
			}
		}
	}
	never := func(bool, string, float64) bool { return false }
	v := simulateAs(t, r, 7, 2600, 0.2, never, flood(90))
	if v.Decision != verdict.Hold || v.Reasons[0].Code != verdict.Influence || v.Network.Prefix != "forger" {
		t.Errorf("flooded: %s %+v %+v", v.Decision, v.Reasons, v.Network)
	}
	if v = simulateAs(t, r, 7, 2600, 0.2, never, flood(0)); v.Decision != verdict.Promote {
		t.Errorf("not flooded: %s %+v %+v", v.Decision, v.Reasons, v.Network)
	}
	r.Policy.Influence = InfluenceIgnore
	if v = simulateAs(t, r, 7, 2600, 0.2, never, flood(90)); v.Decision != verdict.Promote || v.Network.Judged {
		t.Errorf("ignored: %s %+v", v.Decision, v.Reasons)
	}
}

func TestNetworksKeepTheHeavy(t *testing.T) {
	var n Networks
	n.restore()
	for i := range 100_000 {
		n.count(fmt.Sprint("light ", i), 1)
		if i%25 == 0 {
			n.count("heavy", 1)
		}
	}
	heavy := n.of("heavy")
	if heavy == nil || heavy.Count < 4000 || heavy.Count-heavy.Error > 4000 || len(n.Top) != maxNetworks {
		t.Fatalf("%+v of %d", heavy, len(n.Top))
	}
	for _, x := range n.Top {
		if n.of(x.Prefix) == nil || x.Count > 104_000/maxNetworks+4001 {
			t.Errorf("%+v", x)
		}
	}
}

// TestMissingHolds has the canary lose what it measures, and nothing else
// differ: no promote may come of it.
func TestMissingHolds(t *testing.T) {
	never := func(bool, string, float64) bool { return false }
	r := rollout(t, func(r *Rollout) { r.Policy.ReportAfter = Duration(4 * time.Second) })
	vital := func(bc *event.Beacon, name string) {
		bc.Events = append(bc.Events, event.One{Kind: event.Vital, Name: name, Value: 0.01, HasVal: true, Time: bc.Received})
	}
	for _, c := range []struct {
		name string
		harm func(bc *event.Beacon, i int)
	}{
		{"no_lcp", func(bc *event.Beacon, i int) { bc.Events = bc.Events[:1+i%2] }},
		{"seq_gap", func(bc *event.Beacon, i int) {
			if i%4 == 0 {
				bc.Seq++
			}
		}},
		{"client_drop", func(bc *event.Beacon, i int) {
			if i%4 == 0 {
				bc.Drops = []event.Dropped{{Cause: "vital/queue", Count: 2}}
			}
		}},
		{"no_init", func(bc *event.Beacon, i int) {
			bc.Events = append(bc.Events, event.One{Kind: event.Session, Name: "boot", Time: bc.Received})
			if i%4 != 0 {
				bc.Events = append(bc.Events, event.One{Kind: event.Session, Name: "init", Time: bc.Received})
			}
		}},
	} {
		alter := func(both bool) func(bc *event.Beacon, canary bool) {
			return func(bc *event.Beacon, canary bool) {
				spread(t, bc)
				if bc.Seq == 1 {
					vital(bc, "LCP")
					if i := number(t, bc) / 3; canary || both {
						c.harm(bc, i)
					}
				}
			}
		}
		v := simulateAs(t, r, 8, 3500, 0.2, never, alter(false))
		if v.Decision != verdict.Hold || v.Reasons[0].Code != verdict.Missing || !strings.Contains(v.Reasons[0].Text, losing[c.name]) {
			t.Errorf("%s: %s %+v\n%+v", c.name, v.Decision, v.Reasons, v.Losses)
		}
		if v = simulateAs(t, r, 8, 3500, 0.2, never, alter(true)); v.Reasons[0].Code == verdict.Missing {
			t.Errorf("%s of both arms: %+v", c.name, v.Reasons)
		}
	}
	unchecked := r
	unchecked.Policy.Unchecked = []string{"seq_gap"}
	v := simulateAs(t, unchecked, 8, 3500, 0.2, never, func(bc *event.Beacon, canary bool) {
		if spread(t, bc); bc.Seq == 1 && canary && number(t, bc)%4 == 0 {
			bc.Seq++
		}
	})
	if v.Decision != verdict.Promote && v.Reasons[0].Code == verdict.Missing {
		t.Errorf("unchecked: %s %+v", v.Decision, v.Reasons)
	}
}

// TestUserOnce has one user of the canary fail in hundreds of sessions: as
// sessions that is harm, and as users it is one failure.
func TestUserOnce(t *testing.T) {
	alter := func(bc *event.Beacon, canary bool) {
		i := number(t, bc)
		spread(t, bc)
		bc.User = fmt.Sprint("user ", i)
		if canary && i%6 == 0 {
			bc.User = "heavy"
			if bc.Seq == 1 {
				bc.Events = []event.One{{Kind: event.Error, Name: "TypeError", Time: bc.Received}}
			}
		}
	}
	rare := func(_ bool, _ string, u float64) bool { return u < 0.01 }
	of := func(unit string) verdict.Verdict {
		return simulateAs(t, rollout(t, func(r *Rollout) {
			r.Stages[0].MinSessions = 1e9
			r.Policy.Guardrails = map[string]Guardrail{"error_free": {Unit: unit}}
		}), 9, 5000, 0.2, rare, alter)
	}
	if v := of(UnitSession); v.Decision != verdict.Rollback {
		t.Errorf("sessions: %s %+v", v.Decision, v.Reasons)
	}
	v := of(UnitUser)
	if f := v.Findings[session.Errors]; v.Decision != verdict.Hold || float64(v.LogEHarm) > 2 || f.Unit != UnitUser || f.Failures.Canary > 30 || f.Sessions.Canary >= v.Sessions.Canary {
		t.Errorf("users: %s, harm %v, %+v", v.Decision, v.LogEHarm, f)
	}
}

// TestBrokenCustomerIsNamed breaks the canary for one of 60 customers.
func TestBrokenCustomerIsNamed(t *testing.T) {
	v := simulateAs(t, rollout(t, func(r *Rollout) { r.Policy.Tenants = "env"; r.Stages[0].MinSessions = 1e9 }), 10, 20_000, 0.2,
		func(_ bool, _ string, u float64) bool { return u < 0.01 }, func(bc *event.Beacon, canary bool) {
			spread(t, bc)
			i := number(t, bc)
			bc.Ctx.Env = fmt.Sprint("customer ", i%60)
			if bc.Seq == 1 && canary && i%60 == 17 {
				bc.Events = []event.One{{Kind: event.Error, Name: "TypeError", Time: bc.Received}}
			}
		})
	if len(v.Blame) == 0 || v.Blame[0].Customer != "customer 17" || v.Blame[0].Failures.Canary > 40 {
		t.Errorf("%s %+v: %+v", v.Decision, v.Reasons, v.Blame)
	}
	for _, f := range v.Blame {
		if f.Customer != "" && f.Customer != "customer 17" {
			t.Errorf("blamed: %+v", f)
		}
	}
}

// TestNotCritical has harm in a guardrail that is not critical: it neither
// rolls back nor promotes.
func TestNotCritical(t *testing.T) {
	no := false
	v := simulateAs(t, rollout(t, func(r *Rollout) {
		r.Policy.Guardrails = map[string]Guardrail{"error_free": {Critical: &no, Optional: true}}
	}), 11, 6000, 0.2,
		func(canary bool, _ string, u float64) bool { return canary && u < 0.3 || u < 0.05 }, func(bc *event.Beacon, _ bool) { spread(t, bc) })
	if v.Decision != verdict.Hold || v.Reasons[0].Code != verdict.Advisory {
		t.Errorf("%s %+v", v.Decision, v.Reasons)
	}
}

// TestEitherDirection has the canary fail less, which harms only a guardrail
// that says so.
func TestEitherDirection(t *testing.T) {
	for _, direction := range []string{DirectionIncrease, DirectionDecrease, DirectionEither} {
		v := simulateAs(t, rollout(t, func(r *Rollout) {
			r.Stages[0].MinSessions = 1e9
			r.Policy.Guardrails = map[string]Guardrail{"error_free": {Direction: direction}}
		}), 12, 6000, 0.2, func(canary bool, _ string, u float64) bool { return !canary && u < 0.3 || u < 0.05 }, func(bc *event.Beacon, _ bool) { spread(t, bc) })
		if (v.Decision == verdict.Rollback) != (direction != DirectionIncrease) {
			t.Errorf("%s: %s %+v", direction, v.Decision, v.Reasons)
		}
	}
}

// TestDecrease: where fewer is harm, as many is proven safe and more is, too; and
// no failure is none.
func TestDecrease(t *testing.T) {
	for _, c := range []struct {
		name     string
		fails    func(canary bool, _ string, u float64) bool
		want     verdict.Code
		sentence string
	}{
		{"as many", func(_ bool, _ string, u float64) bool { return u < 0.3 }, verdict.Safe, ""},
		{"more", func(canary bool, _ string, u float64) bool { return u < 0.3 || canary && u < 0.5 }, verdict.Safe, ""},
		{"half as many", func(canary bool, _ string, u float64) bool { return u < 0.1 || !canary && u < 0.25 }, verdict.Harm, "0.4 times"},
		{"none of either", func(bool, string, float64) bool { return false }, verdict.Evidence, "cannot come"},
	} {
		v := simulateAs(t, rollout(t, func(r *Rollout) {
			r.Policy.Guardrails = map[string]Guardrail{}
			for m := range session.Metrics {
				r.Policy.Guardrails[m.String()] = Guardrail{Weight: 1e-9, Optional: true}
			}
			r.Policy.Guardrails["error_free"] = Guardrail{Direction: DirectionDecrease, Weight: 1}
		}), 14, 6000, 0.2, c.fails, func(bc *event.Beacon, _ bool) { spread(t, bc) })
		if v.Reasons[0].Code != c.want || !strings.Contains(v.Sentence, c.sentence) || v.Findings[session.Errors].Direction != DirectionDecrease {
			t.Errorf("%s: %+v, %s", c.name, v.Reasons, v.Sentence)
		}
		if v.Reasons[0].Code == verdict.Harm && !(v.Radius.Excess > 0 && v.Radius.ExcessLo < v.Radius.Excess && v.Radius.Excess < v.Radius.ExcessHi) {
			t.Errorf("%s: %+v", c.name, v.Radius)
		}
	}
	for field, g := range map[string]Guardrail{
		"margin: 4: want above 0, at most 3":  {Direction: DirectionDecrease, Margin: 4},
		"floor: 0.01: want it absent":         {Direction: DirectionDecrease, Floor: 0.01},
		`evidence: "two_sample": want counts`: {Direction: DirectionDecrease, Evidence: EvidenceTwoSample},
	} {
		p := Policy{Name: "p", Revision: 1, Guardrails: map[string]Guardrail{"error_free": g}}
		if err := p.Normalize(); err == nil || !strings.Contains(err.Error(), "guardrails.error_free."+field) {
			t.Errorf("%+v: %v, want %q", g, err, field)
		}
	}
	p := Policy{Name: "p", Revision: 1, Guardrails: map[string]Guardrail{"error_free": {Direction: DirectionDecrease}}}
	if err := errors.Join(p.Normalize(), p.Normalize()); err != nil || p.Guardrails["error_free"].Floor != 0 {
		t.Errorf("what was checked is checked again: %v, %+v", err, p.Guardrails["error_free"])
	}
}

// TestOutlook checks what a hold says it needs against what it then took.
func TestOutlook(t *testing.T) {
	var told verdict.Verdict
	r := rollout(t, func(r *Rollout) { r.Stages[0].Dwell = Duration(5 * time.Second) })
	fails := func(_ bool, _ string, u float64) bool { return u < 0.03 }
	v := simulateAs(t, r, 13, 3000, 0.2, fails, func(bc *event.Beacon, _ bool) { spread(t, bc) })
	if v.Decision != verdict.Hold || v.Outlook == nil || v.Outlook.Promote == nil {
		t.Fatalf("%s %+v %+v", v.Decision, v.Reasons, v.Outlook)
	}
	told = v
	r.Stages[0].MinSessions = 1e12
	if far := simulateAs(t, r, 13, 3000, 0.2, fails, func(bc *event.Beacon, _ bool) { spread(t, bc) }); far.Outlook == nil || far.Outlook.Promote != nil {
		t.Errorf("sessions that take longer than a year are told for a day: %+v", far.Outlook)
	}
	r.Stages[0].MinSessions = 50
	for _, want := range []string{"needs about", "likely by 00:", "can at best show", "times as common by 01:00 UTC"} {
		if !strings.Contains(v.Sentence, want) {
			t.Errorf("no %q in %s", want, v.Sentence)
		}
	}
	v = simulateAs(t, r, 13, 60_000, 0.2, fails, func(bc *event.Beacon, _ bool) { spread(t, bc) })
	if v.Decision != verdict.Promote {
		t.Fatalf("%s %+v", v.Decision, v.Reasons)
	}
	took, likely := v.IssuedAt.Sub(told.IssuedAt), told.Outlook.Promote.Sub(told.IssuedAt)
	t.Logf("told %v, took %v", likely, took)
	if took > 3*likely || likely > 3*took {
		t.Errorf("a promote was told in %v and took %v", likely, took)
	}
}

// TestDetectable: the more places a policy looks for harm in, the larger what all
// share has to be to be shown in the same time.
func TestDetectable(t *testing.T) {
	fails := func(_ bool, _ string, u float64) bool { return u < 0.03 }
	last := verdict.Bound(1)
	for _, change := range []func(*Policy){
		func(p *Policy) { p.Strata = []string{} },
		func(p *Policy) { p.Strata = []string{"device"} },
		func(p *Policy) { p.Strata, p.Tenants = []string{"device"}, "env" },
	} {
		r := rollout(t, func(r *Rollout) { change(&r.Policy) })
		v := simulateAs(t, r, 13, 3000, 0.2, fails, func(bc *event.Beacon, _ bool) { spread(t, bc) })
		if v.Outlook == nil || !(v.Outlook.Detectable > last) {
			t.Fatalf("strata %q, customers %q: %+v; want a ratio above %v", r.Policy.Strata, r.Policy.Tenants, v.Outlook, last)
		}
		last = v.Outlook.Detectable
	}
}

// TestObservational does not test the ratio of arms that nobody plans, and says
// what the verdict then is.
func TestObservational(t *testing.T) {
	v := simulateAs(t, rollout(t, func(r *Rollout) { r.Policy.Allocation = AllocationFree; r.Stages[0].MinSessions = 1e9 }), 14, 3000, 0.6,
		func(bool, string, float64) bool { return false }, func(bc *event.Beacon, _ bool) { spread(t, bc) })
	if v.Reasons[0].Code == verdict.SampleRatio || v.Observational == "" || !strings.Contains(v.Sentence, "Observational") {
		t.Errorf("%+v %s", v.Reasons, v.Sentence)
	}
}

// TestAlikeArmsAreNotHeld has both arms lose and lack the same at random: none
// of the tests of the data may call that a difference, at a level of 0.001 each.
func TestAlikeArmsAreNotHeld(t *testing.T) {
	r := rollout(t, func(r *Rollout) {
		r.Stages[0].MinSessions, r.Policy.ReportAfter = 1e9, Duration(4*time.Second)
	})
	for seed := range uint64(15) {
		rng := rand.New(rand.NewPCG(seed, 9))
		v := simulateAs(t, r, seed, 2000, 0.2, func(_ bool, _ string, u float64) bool { return u < 0.05 }, func(bc *event.Beacon, _ bool) {
			spread(t, bc)
			if bc.Seq == 0 {
				return
			}
			for _, name := range []string{"LCP", "INP", "CLS"} {
				if rng.IntN(3) > 0 {
					bc.Events = append(bc.Events, event.One{Kind: event.Vital, Name: name, Value: 0.01, HasVal: true, Time: bc.Received})
				}
			}
			bc.Events = append(bc.Events, event.One{Kind: event.Session, Name: "boot", Time: bc.Received})
			if rng.IntN(10) > 0 {
				bc.Events = append(bc.Events, event.One{Kind: event.Session, Name: "init", Time: bc.Received})
			}
			if rng.IntN(10) == 0 {
				bc.Seq++
			}
			if rng.IntN(10) == 0 {
				bc.Drops = []event.Dropped{{Cause: "vital/queue", Count: 1}}
			}
		})
		if v.Decision != verdict.Hold || v.Reasons[0].Code != verdict.Collecting {
			t.Errorf("seed %d: %s %+v", seed, v.Decision, v.Reasons)
		}
		for _, l := range v.Losses[1:] { // every one but the sessions that showed nothing
			if l.Lost.Baseline < 50 {
				t.Errorf("seed %d: hardly any to compare: %+v", seed, l)
			}
		}
	}
}
