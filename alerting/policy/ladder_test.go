package policy

import (
	"strings"
	"testing"
	"time"
)

func TestLadderCheck(t *testing.T) {
	receivers, alerts := []string{"deploy", "second", "kill"}, []string{"pager", "am"}
	step := func(to string, page ...string) Step { return Step{After: time.Minute, To: to, Page: page} }
	for name, c := range map[string]struct {
		l    Ladder
		want []string // none: no fault
	}{
		"none":               {Ladder{}, nil},
		"second, kill, page": {Ladder{Steps: []Step{step("second"), step("kill"), step("", "pager", "am")}}, nil},
		"a tool that asks":   {Ladder{By: []string{"gate"}, Steps: []Step{step("kill")}}, nil},
		"no steps":           {Ladder{By: []string{"deploy"}}, []string{"steps: none"}},
		"all on steps":       {Ladder{Steps: []Step{step("deploy"), step("second"), step("kill")}}, []string{"acknowledged_by: none: want gate"}},
		"unknown names": {Ladder{By: []string{"x"}, Steps: []Step{step("y"), step("", "z")}},
			[]string{`steps[0].to: "y": want one of`, `steps[1].page: "z"`, `acknowledged_by[0]: "x"`}},
		"by one of a step": {Ladder{By: []string{"kill"}, Steps: []Step{step("kill")}}, []string{`acknowledged_by[0]: "kill"`}},
		"both and neither": {Ladder{Steps: []Step{step("kill", "pager"), step("")}}, []string{"steps[0]: to", "steps[1]: to"}},
		"twice":            {Ladder{Steps: []Step{step("kill"), step("kill"), step("", "am"), step("", "am")}}, []string{"steps[1].to", "steps[3].page: a second one"}},
		"times":            {Ladder{Steps: []Step{{To: "kill"}, {After: 13 * time.Hour, To: "second"}, {After: 12 * time.Hour, Page: []string{"am"}}}}, []string{"steps[0].after: 0s: want 1s to 24h0m0s", "steps: 25h0m0s in all"}},
	} {
		err := c.l.Check(receivers, alerts)
		if len(c.want) == 0 && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v: no %q", name, err, want)
			}
		}
	}
}

func TestLadderDue(t *testing.T) {
	l := Ladder{Steps: []Step{{After: time.Minute, To: "second"}, {After: 2 * time.Minute, To: "kill"}, {After: time.Minute, Page: []string{"am"}}}}
	given := time.Unix(1_764_000_000, 0)
	began := map[int]time.Time{}
	look := func() (int, time.Duration) {
		step, at := l.Due(given, func(step int) (time.Time, bool) { b, ok := began[step]; return b, ok })
		return step, at.Sub(given)
	}
	if step, at := look(); step != 1 || at != time.Minute {
		t.Errorf("%d at %v", step, at)
	}
	// A server that was away for an hour takes one step, and gives the next its time.
	began[1] = given.Add(time.Hour)
	if step, at := look(); step != 2 || at != time.Hour+2*time.Minute {
		t.Errorf("%d at %v", step, at)
	}
	began[2] = began[1].Add(2 * time.Minute)
	began[3] = began[2].Add(time.Minute)
	if step, _ := look(); step != 0 {
		t.Errorf("%d after the last", step)
	}
	if !l.Acknowledges("deploy") || !l.Acknowledges("kill") {
		t.Error("a receiver's 2xx is none")
	}
	l.By = []string{"deploy"}
	if l.Acknowledges("chat") || !l.Acknowledges("deploy") || !l.Acknowledges("second") {
		t.Error("acknowledged_by is not heeded")
	}
}
