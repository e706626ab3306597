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
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/tenant"
)

func rollout(t *testing.T, change func(*Rollout)) Rollout {
	t.Helper()
	r := Rollout{ID: "r", App: "shop", Change: "release/2", Canary: "2", Baseline: "1",
		Stages: []Stage{{Weight: 0.2, MinSessions: 50, Dwell: Duration(10 * time.Second), Deadline: Duration(time.Hour)}},
		Policy: Policy{Strata: []string{"device"}, Epoch: Duration(time.Second), SilenceAfter: Duration(2 * time.Second), Settle: 1}}
	if change != nil {
		change(&r)
	}
	if err := r.Normalize(); err != nil {
		t.Fatal(err)
	}
	return r
}

// simulate draws sessions, each of two beacons a second apart, and folds them
// as the engine does. It looks after every 200 and ends at the first verdict
// that is not a hold.
func simulate(t *testing.T, r Rollout, seed uint64, sessions int, weight float64, fails func(canary bool, device string, u float64) bool) verdict.Verdict {
	t.Helper()
	return simulateAs(t, r, seed, sessions, weight, fails, func(*event.Beacon, bool) {})
}

// simulateAs is simulate with a hand in each beacon before it is sent.
func simulateAs(t *testing.T, r Rollout, seed uint64, sessions int, weight float64, fails func(canary bool, device string, u float64) bool, alter func(bc *event.Beacon, canary bool)) verdict.Verdict {
	t.Helper()
	id, err := tenant.Stored("t")
	if err != nil {
		t.Fatal(err)
	}
	test, table := NewTest("t", r, 0), session.NewTable()
	rng := rand.New(rand.NewPCG(seed, 1))
	b := batch.New(batch.Partition{Tenant: id, App: "shop", Release: "x"})
	var v verdict.Verdict
	type later struct {
		bc event.Beacon
		at int64
	}
	var queue []later
	position := uint64(0)
	fold := func(bc event.Beacon) {
		position++
		lo := b.Len()
		b.Append(position, 0, &bc)
		s, admission := table.Admit(session.Key{Tenant: "t", App: "shop", ID: bc.Session}, bc.Seq, bc.Received)
		test.Advance(bc.Received, table)
		if admission == session.First {
			test.Enter(s, b, lo)
		}
		failed := table.Fold(s, b, lo, b.Len())
		for _, e := range s.Enrolled {
			test.Observe(s, e, b, lo, b.Len())
			for _, m := range failed {
				test.Fail(e, m)
			}
		}
		if table.Shed(s, b, lo, b.Len()) {
			for _, e := range s.Enrolled {
				test.Lose(e)
			}
		}
	}
	for i := range sessions {
		now := int64(i) * 20 // 50 sessions a second
		for len(queue) > 0 && queue[0].at <= now {
			fold(queue[0].bc)
			queue = queue[1:]
		}
		canary := rng.Float64() < weight
		device := []string{"mobile", "desktop", "tablet"}[rng.IntN(3)]
		arm := "baseline"
		if canary {
			arm = "canary"
		}
		bc := event.Beacon{SDK: "t/1", App: "shop", Release: "x", Session: fmt.Sprintf("session-%d", i), Sent: now, Received: now,
			Arms: []event.Arm{{Change: "release/2", Variant: arm}}, Ctx: event.Context{Device: device},
			Events: []event.One{{Kind: event.Exposure, Name: "release/2", Time: now}}}
		alter(&bc, canary)
		fold(bc)
		bc.Seq, bc.Received = 1, now+1000
		bc.Events = []event.One{{Kind: event.View, Name: "/", Time: now}}
		if fails(canary, device, rng.Float64()) {
			bc.Events = []event.One{{Kind: event.Error, Name: "TypeError", Time: now}}
		}
		bc.Drops = nil
		alter(&bc, canary)
		queue = append(queue, later{bc, now + 1000})
		if i%200 == 199 {
			if v = test.Decide(Question{At: now, Position: position}); v.Decision != verdict.Hold {
				return v
			}
		}
	}
	return v
}

// TestFalseRollbackRate looks at whole rollouts without a difference.
func TestFalseRollbackRate(t *testing.T) {
	const rollouts = 40
	rolledBack := 0
	r := rollout(t, func(r *Rollout) { r.Policy.Alpha, r.Stages[0].MinSessions = 0.05, 1e9 })
	for seed := range uint64(rollouts) {
		v := simulate(t, r, seed, 3000, 0.2, func(_ bool, device string, u float64) bool { return u < 0.05 || device == "tablet" && u < 0.15 })
		if v.Decision == verdict.Rollback {
			rolledBack++
		}
	}
	t.Logf("%d of %d rollouts without a difference are rolled back", rolledBack, rollouts)
	if rolledBack > 6 { // 2 and 3 standard errors
		t.Errorf("%d of %d rollouts without a difference are rolled back at alpha 0.05", rolledBack, rollouts)
	}
}

// TestBrokenStratumIsNamed breaks the canary on one device class.
func TestBrokenStratumIsNamed(t *testing.T) {
	v := simulate(t, rollout(t, nil), 1, 8000, 0.2, func(canary bool, device string, u float64) bool {
		return u < 0.03 || canary && device == "tablet" && u < 0.4
	})
	if v.Decision != verdict.Rollback || v.Reasons[0].Code != verdict.Harm {
		t.Fatalf("%s: %s", v.Decision, v.Sentence)
	}
	if len(v.Blame) == 0 || v.Blame[0].Guardrail != "error_free" || v.Blame[0].Stratum != "tablet" || v.Blame[0].Effect.Lo <= 1 {
		t.Errorf("blamed are %+v", v.Blame)
	}
	if !strings.Contains(v.Sentence, "tablet") || v.Radius.Sessions == 0 {
		t.Errorf("%s %+v", v.Sentence, v.Radius)
	}
}

// TestMisroutedSessionsHold loses half of the canary's sessions, and breaks the
// rest: the metrics are not judged.
func TestMisroutedSessionsHold(t *testing.T) {
	v := simulate(t, rollout(t, func(r *Rollout) { r.Policy.Alpha = 1e-30 }), 2, 4000, 0.1, func(bool, string, float64) bool { return false })
	if v.Decision != verdict.Hold || v.Reasons[0].Code != verdict.SampleRatio {
		t.Errorf("%s: %s", v.Decision, v.Sentence)
	}
}

func TestDecideRules(t *testing.T) {
	const hour = 3600_000
	for _, c := range []struct {
		name   string
		change func(*Rollout)
		state  func(*Test)
		q      Question
		want   verdict.Decision
		code   verdict.Code
	}{
		{"nothing was seen", nil, nil, Question{At: 1}, verdict.Hold, verdict.NoExposure},
		{"nothing was seen until the deadline", nil, nil, Question{At: hour}, verdict.Rollback, verdict.Deadline},
		{"the policy holds at the deadline", func(r *Rollout) { r.Policy.OnDeadline = "hold" }, nil, Question{At: hour}, verdict.Hold, verdict.Deadline},
		{"few sessions", nil, func(t *Test) { t.Sessions = [2]int64{100, 20} }, Question{At: 1}, verdict.Hold, verdict.Collecting},
		{"enough sessions and no evidence", nil, func(t *Test) { t.Sessions = [2]int64{200, 60} }, Question{At: 20_000}, verdict.Hold, verdict.Evidence},
		{"behind the journal", nil, func(t *Test) { t.Sessions = [2]int64{200, 60} }, Question{At: 20_000, Behind: true}, verdict.Hold, verdict.Stale},
		{"a person, against the deadline", nil, func(t *Test) { t.ForcedBy = &Force{Decision: "promote", Who: "ci", Why: "x"} }, Question{At: hour}, verdict.Promote, verdict.Override},
		{"a rollback that was given", nil, func(t *Test) {
			t.Latch(&verdict.Verdict{Decision: verdict.Rollback, Reasons: []verdict.Reason{{Code: verdict.Harm}}})
		}, Question{At: 1}, verdict.Rollback, verdict.Harm},
		{"safe", nil, safe, Question{At: 20_000}, verdict.Promote, verdict.Safe},
		{"safe, before the dwell is over", nil, safe, Question{At: 5_000}, verdict.Hold, verdict.Collecting},
		{"the deadline, and behind", nil, func(t *Test) { t.Sessions = [2]int64{200, 60} }, Question{At: hour, Behind: true}, verdict.Hold, verdict.Stale},
		{"the deadline, behind, and nothing was seen", nil, nil, Question{At: hour, Behind: true}, verdict.Hold, verdict.Stale},
		{"safe, and behind", nil, safe, Question{At: 20_000, Behind: true}, verdict.Hold, verdict.Stale},
	} {
		test := NewTest("t", rollout(t, c.change), 0)
		if c.state != nil {
			c.state(test)
		}
		v := test.Decide(c.q)
		if v.Decision != c.want || v.Reasons[0].Code != c.code || v.Sentence == "" {
			t.Errorf("%s: %s, %+v; want %s, %s", c.name, v.Decision, v.Reasons, c.want, c.code)
		}
	}
}

// safe is a canary that failed nothing in many sessions.
func safe(t *Test) { t.Sessions, t.Matured = [2]int64{40_000, 10_000}, [2]int64{40_000, 10_000} }

func TestRollbackLatches(t *testing.T) {
	test := NewTest("t", rollout(t, nil), 0)
	if v := test.Decide(Question{At: 3600_000}); v.Decision != verdict.Rollback {
		t.Fatalf("at the deadline: %s", v.Decision)
	}
	safe(test)
	if v := test.Decide(Question{At: 3600_001}); v.Decision != verdict.Rollback || v.Reasons[0].Code != verdict.Deadline {
		t.Errorf("after it: %s, %+v", v.Decision, v.Reasons)
	}
}

// TestArmsAreNotExchanged: a variant that has the name of the other arm would be
// counted on it.
func TestArmsAreNotExchanged(t *testing.T) {
	r := Rollout{ID: "x", App: "a", Change: "flag/x", Canary: "baseline", Baseline: "canary", Stages: []Stage{{Weight: 0.1}}}
	err := r.Normalize()
	for _, want := range []string{`canary: "baseline": want another name`, `baseline: "canary": want another name`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in %v", want, err)
		}
	}
}

func TestNormalizeNamesAllFaults(t *testing.T) {
	r := Rollout{ID: "../x", App: "a", Change: "c", Canary: "1", Baseline: "1",
		Stages: []Stage{{Weight: 0.5}, {Weight: 0.1}, {Weight: 1, Deadline: 1}},
		Policy: Policy{Alpha: 2, Strata: []string{"shoe size"}, OnDeadline: "pray", Guardrails: map[string]Guardrail{"speed": {}, "lcp_good": {Margin: -1}}}}
	err := r.Normalize()
	if !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	for _, want := range []string{`id: "../x"`, "baseline:", "stages[1].weight: 0.1", "stages[2].weight: 1", "stages[2].deadline", "policy.alpha: 2",
		`"shoe size"`, `policy.on_deadline: "pray"`, `policy.guardrails.speed: "speed"`, "policy.guardrails.lcp_good.margin: -1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in %v", want, err)
		}
	}
}

// TestInstrumentDrift has a release that brings another SDK with it, which
// reports a CLS of 0 where the baseline's says 0.1135. The layout did not change:
// nothing may be promoted, or rolled back, for what is another ruler.
func TestInstrumentDrift(t *testing.T) {
	drift := func(bc *event.Beacon, canary bool) {
		cls := 0.1135
		bc.SDK = "sentry.javascript.browser/10.78.0"
		if canary {
			cls, bc.SDK = 0, "sentry.javascript.browser/11.12.0"
		}
		if bc.Seq == 1 {
			bc.Events = append(bc.Events, event.One{Kind: event.Vital, Name: "CLS", Value: cls, HasVal: true, Time: bc.Received})
		}
	}
	rare := func(_ bool, _ string, u float64) bool { return u < 0.02 }
	v := simulateAs(t, rollout(t, nil), 3, 20_000, 0.2, rare, drift)
	if v.Decision != verdict.Hold || v.Reasons[0].Code != verdict.Instruments || !strings.Contains(v.Reasons[0].Text, "sentry.javascript.browser/11.12.0") {
		t.Errorf("%s: %+v", v.Decision, v.Reasons)
	}
	// The same numbers by one SDK on both sides are a finding.
	v = simulateAs(t, rollout(t, nil), 3, 20_000, 0.2, rare, func(bc *event.Beacon, canary bool) {
		drift(bc, canary)
		bc.SDK = "one/1"
	})
	if len(v.Reasons) > 0 && v.Reasons[0].Code == verdict.Instruments {
		t.Errorf("one SDK on both sides: %+v", v.Reasons)
	}
}

// TestUnlikeSDKsAreStratified has both arms on two SDKs of which one sees many
// more errors, in unlike shares: no harm is there, and none is found.
func TestUnlikeSDKsAreStratified(t *testing.T) {
	n := 0
	v := simulateAs(t, rollout(t, func(r *Rollout) { r.Stages[0].MinSessions = 1e9 }), 4, 12_000, 0.2, func(bool, string, float64) bool { return false },
		func(bc *event.Beacon, canary bool) {
			// By the session's number, so that both of its beacons agree.
			var i int
			if _, err := fmt.Sscanf(bc.Session, "session-%d", &i); err != nil {
				t.Fatal(err)
			}
			n++
			keen := i%10 < 3
			if canary {
				keen = i%10 < 7
			}
			bc.SDK = "plain/1"
			if keen {
				bc.SDK = "keen/1"
				if bc.Seq == 1 && i%7 == 0 {
					bc.Events = []event.One{{Kind: event.Error, Name: "ResizeObserver", Time: bc.Received}}
				}
			}
		})
	if v.Decision != verdict.Hold || float64(v.LogEHarm) > 2 {
		t.Errorf("%s with evidence of harm %v: %+v", v.Decision, v.LogEHarm, v.Reasons)
	}
}

// TestUnequalLossHolds sheds on the canary only.
func TestUnequalLossHolds(t *testing.T) {
	shed := func(share func(canary bool) int) func(bc *event.Beacon, canary bool) {
		return func(bc *event.Beacon, canary bool) {
			var i int
			if _, err := fmt.Sscanf(bc.Session, "session-%d", &i); err != nil {
				t.Fatal(err)
			}
			if bc.Seq == 1 && i%100 < share(canary) {
				bc.Drops = []event.Dropped{{Cause: "shed/error", Count: 1}}
			}
		}
	}
	never := func(bool, string, float64) bool { return false }
	r := rollout(t, func(r *Rollout) { r.Stages[0].MinSessions = 1e9 })
	v := simulateAs(t, r, 5, 6000, 0.2, never, shed(func(canary bool) int {
		if canary {
			return 30
		}
		return 5
	}))
	if v.Decision != verdict.Hold || v.Reasons[0].Code != verdict.UnequalLoss {
		t.Errorf("unequal loss: %s, %+v", v.Decision, v.Reasons)
	}
	v = simulateAs(t, r, 5, 6000, 0.2, never, shed(func(bool) int { return 20 }))
	if v.Reasons[0].Code == verdict.UnequalLoss {
		t.Errorf("equal loss: %+v", v.Reasons)
	}
}
