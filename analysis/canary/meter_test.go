package canary

import (
	"math"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/analysis/exposure"
	"serin.dev/serin/analysis/verdict"
)

// TestExposure asks for what a rollout has come to under each kind of answer.
func TestExposure(t *testing.T) {
	r := rollout(t, func(r *Rollout) {
		second := r.Stages[0]
		second.Weight, second.Deadline, second.OnDeadline = 0.4, Duration(3*time.Hour), DeadlineHold
		r.Stages = append(r.Stages, second)
		r.Policy.Guardrails = map[string]Guardrail{"basket": {Kind: KindMean, Metric: "metric/basket", Margin: 1, Bound: 100}, "inp_good": {Evidence: EvidenceTwoSample}}
	})
	test := NewTest("t", r, 1000)
	at := int64(1000 + 20*60_000)
	test.Now, test.Sessions = at, [2]int64{8000, 2000}
	test.Trace.Points = []Point{{At: 1000, Sessions: verdict.Arms{}}, {At: at - recent, Sessions: verdict.Arms{Canary: 500, Baseline: 2500}}, {At: at, Sessions: verdict.Arms{Canary: 2000, Baseline: 8000}}}
	v := test.Decide(Question{At: at})
	s := test.Exposure(&v)
	if s.PerHour != 42_000 || s.Given != 40*time.Minute || s.Stage != 0 || len(s.Steps) != 2 || s.Steps[1].Weight != 0.4 || s.Rest != "" || s.Lag != time.Second || s.Holds {
		t.Errorf("%+v", s)
	}
	if len(s.Values) != 1 || s.Values[0] != "basket" {
		t.Errorf("guardrails on values: %v", s.Values)
	}
	total := 0.0
	for _, g := range s.Guardrails {
		if g.Untold != (g.Name == "inp_good") || g.NeedSafe != math.Log(40) || g.Pass <= 0 || g.Fail >= 0 {
			t.Errorf("%+v", g)
		}
		total += math.Exp(-g.NeedHarm) / r.Policy.Alpha / weightShared
	}
	if total += r.Policy.Guardrails["basket"].Weight; math.Abs(total-1) > 1e-9 {
		t.Errorf("the weights sum to %v", total)
	}
	if m := exposure.Read(s); m.Why == "" || m.Planned == nil || m.Planned.Share != 0.4 {
		t.Errorf("%+v", m)
	}
	for _, c := range []struct {
		decision verdict.Decision
		code     verdict.Code
		rest     string
		promoted bool
	}{
		{verdict.Promote, verdict.Safe, "", true},
		{verdict.Rollback, verdict.Harm, "rolled back", false},
		{verdict.Hold, verdict.SampleRatio, "More traffic would not help: off.", false},
		{verdict.Hold, verdict.Deadline, "The time given is over.", false},
		{verdict.Hold, verdict.Collecting, "", false},
	} {
		v.Decision, v.Reasons = c.decision, []verdict.Reason{{Code: c.code, Text: "off"}}
		s := test.Exposure(&v)
		if s.Promoted != c.promoted || !strings.Contains(s.Rest, c.rest) || (s.Rest == "") != (c.rest == "") {
			t.Errorf("%s: %+v", c.code, s)
		}
		if c.promoted && (s.Given != 3*time.Hour || !s.Holds) {
			t.Errorf("after a promote: %+v", s)
		}
	}
	if test.Now = 3000; !math.IsNaN(test.perHour()) {
		t.Error("a pace after two seconds")
	}
}
