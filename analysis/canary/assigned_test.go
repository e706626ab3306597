package canary

import (
	"errors"
	"strings"
	"testing"

	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

func TestAssigned(t *testing.T) {
	test := NewTest("t", rollout(t, nil), 0)
	seen := func(baseline, canary int64) { test.Sessions = [2]int64{baseline, canary} }
	if v := test.Decide(Question{}); len(v.Losses) != int(session.Losses) {
		t.Errorf("losses without a telling: %+v", v.Losses)
	}
	// Of the first block some are on their way: they come in the second.
	seen(850, 90)
	test.Assign(100, 900)
	seen(1800, 200)
	test.Assign(200, 1800)
	if a := test.Assigned; a.Missing != [2]int64{50, 10} || a.Early != [2]int64{50, 10} {
		t.Errorf("%+v", a)
	}
	v := test.Decide(Question{})
	l := v.Losses[len(v.Losses)-1]
	if l.Name != NotBooted || l.Sessions != (verdict.Arms{Canary: 200, Baseline: 1800}) || l.Lost != (verdict.Arms{Canary: 10, Baseline: 50}) || float64(l.LogE) > 1 {
		t.Errorf("%+v", l)
	}
	// A fifth of the canary's clients do not boot.
	for i := range int64(20) {
		seen(1800+900*(i+1), 200+80*(i+1))
		test.Assign(200+100*(i+1), 1800+900*(i+1))
	}
	v = test.Decide(Question{At: 1})
	if v.Decision != verdict.Hold || v.Reasons[0].Code != verdict.Missing || !strings.Contains(v.Sentence, "never boot") {
		t.Errorf("%s: %s", v.Decision, v.Sentence)
	}
	for _, n := range [][2]int64{{-1, 30000}, {2199, 30000}, {2200, 5}, {1 << 41, 30000}} {
		if err := test.CheckAssigned(n[0], n[1]); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "clients assigned so far") {
			t.Errorf("%v: %v", n, err)
		}
	}
	if err := test.CheckAssigned(2200, 19800); err != nil {
		t.Error(err)
	}
}
