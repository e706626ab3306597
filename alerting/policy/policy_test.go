package policy

import (
	"testing"

	"serin.dev/serin/analysis/verdict"
)

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
