package policy

import (
	"testing"

	"serin.dev/serin/analysis/verdict"
)

// TestOvertaken: no decision that acts is told once another one stands, and a hold is
// told before a promote as it was given.
func TestOvertaken(t *testing.T) {
	const hold, promote, rollback = verdict.Hold, verdict.Promote, verdict.Rollback
	for of, want := range map[[2]verdict.Decision]bool{
		{hold, hold}: false, {hold, promote}: false, {hold, rollback}: true,
		{promote, hold}: true, {promote, promote}: false, {promote, rollback}: true,
		{rollback, hold}: true, {rollback, promote}: true, {rollback, rollback}: false,
	} {
		if got := Overtaken(of[0], 1, &verdict.Verdict{Number: 2, Decision: of[1]}); got != want {
			t.Errorf("%s, and then %s: %v, want %v", of[0], of[1], got, want)
		}
		if Overtaken(of[0], 2, &verdict.Verdict{Number: 2, Decision: of[1]}) || Overtaken(of[0], 2, nil) {
			t.Errorf("%s: overtaken by nothing newer", of[0])
		}
	}
}

func TestWorth(t *testing.T) {
	v := func(stage int, d verdict.Decision, c verdict.Code) *verdict.Verdict {
		return &verdict.Verdict{Stage: stage, Decision: d, Reasons: []verdict.Reason{{Code: c}}}
	}
	for _, c := range []struct {
		name    string
		prev, v *verdict.Verdict
		want    bool
	}{
		{"the first", nil, v(0, verdict.Hold, verdict.NoExposure), true},
		{"still collecting", v(0, verdict.Hold, verdict.NoExposure), v(0, verdict.Hold, verdict.Collecting), false},
		{"the same again", v(0, verdict.Rollback, verdict.Harm), v(0, verdict.Rollback, verdict.Harm), false},
		{"a rollback", v(0, verdict.Hold, verdict.Evidence), v(0, verdict.Rollback, verdict.Harm), true},
		{"a promote that ends", v(0, verdict.Promote, verdict.Safe), v(0, verdict.Hold, verdict.Evidence), true},
		{"another stage", v(0, verdict.Hold, verdict.Collecting), v(1, verdict.Hold, verdict.Collecting), true},
		{"data that are off", v(0, verdict.Hold, verdict.Evidence), v(0, verdict.Hold, verdict.SampleRatio), true},
		{"one network decides", v(0, verdict.Hold, verdict.Evidence), v(0, verdict.Hold, verdict.Influence), true},
		{"an arm that reports less", v(0, verdict.Hold, verdict.Evidence), v(0, verdict.Hold, verdict.Missing), true},
		{"a deadline that holds", v(0, verdict.Hold, verdict.Evidence), v(0, verdict.Hold, verdict.Deadline), true},
		{"data that are right again", v(0, verdict.Hold, verdict.SampleRatio), v(0, verdict.Hold, verdict.Evidence), false},
		{"a person's rollback after ours", v(0, verdict.Rollback, verdict.Harm), v(0, verdict.Rollback, verdict.Override), true},
		{"without reasons", &verdict.Verdict{}, &verdict.Verdict{}, false},
	} {
		if got := Worth(c.prev, c.v); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
