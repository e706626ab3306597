package policy

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// PageTarget stands for the step that pages, where deliveries name a target.
const PageTarget = "page"

// GateTarget stands for the gates, where deliveries name a target: a tool that
// asked and was answered rollback.
const GateTarget = "gate"

// The bounds of a ladder.
const (
	maxSteps  = 8
	minStep   = time.Second
	maxLadder = 24 * time.Hour // as long as a rollback is told
)

// Step is one step of a ladder: who is told of a rollback that nobody took so far.
type Step struct {
	After time.Duration // since the step before began, or since the rollback was given
	To    string        // a webhook or a tool, which is told of nothing but this
	Page  []string      // or the targets of alerts that are paged
}

// Target names the step's target in deliveries.
func (s *Step) Target() string {
	if s.To == "" {
		return PageTarget
	}
	return s.To
}

// Ladder says what becomes of a rollback that no receiver acknowledges. It climbs a
// step at a time, each once, for as long as nobody has taken the rollback. The zero
// Ladder has no steps.
type Ladder struct {
	// By are the targets whose 2xx is an acknowledgement, beside those of the steps;
	// empty: all webhooks and tools that are on no step.
	By    []string
	Steps []Step
}

// Check reports all that is wrong with a ladder, given the names of a tenant's
// webhooks and tools, and of its targets of alerts.
func (l *Ladder) Check(receivers, alerts []string) error {
	if len(l.Steps) == 0 {
		if len(l.By) > 0 {
			return errors.New("steps: none: want 1 to 8")
		}
		return nil
	}
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }
	if len(l.Steps) > maxSteps {
		fault("steps: %d: want 1 to %d", len(l.Steps), maxSteps)
	}
	whole := time.Duration(0)
	paged := false
	for i, s := range l.Steps {
		where := fmt.Sprintf("steps[%d]", i)
		if s.After < minStep || s.After > maxLadder {
			fault("%s.after: %v: want %v to %v", where, s.After, minStep, maxLadder)
		}
		whole += s.After
		if (s.To == "") == (len(s.Page) == 0) {
			fault("%s: to %q, page %q: want one of both", where, s.To, s.Page)
		}
		if s.To != "" && !slices.Contains(receivers, s.To) {
			fault("%s.to: %q: want one of the tenant's webhooks and tools, %q", where, s.To, receivers)
		}
		if s.To != "" && slices.ContainsFunc(l.Steps[:i], func(o Step) bool { return o.To == s.To }) {
			fault("%s.to: %q: want each once", where, s.To)
		}
		for _, name := range s.Page {
			if !slices.Contains(alerts, name) {
				fault("%s.page: %q: want of the tenant's alerts, %q", where, name, alerts)
			}
		}
		if len(s.Page) > 0 && paged {
			fault("%s.page: a second one: want one step that pages", where)
		}
		paged = paged || len(s.Page) > 0
	}
	if whole > maxLadder {
		fault("steps: %v in all: want at most %v, for which a rollback is told", whole, maxLadder)
	}
	for i, name := range l.By {
		if name != GateTarget && !slices.Contains(receivers, name) || l.On(name) > 0 {
			fault("acknowledged_by[%d]: %q: want %s, or one of the tenant's webhooks and tools that is on no step", i, name, GateTarget)
		}
	}
	if len(l.acknowledging(receivers)) == 0 {
		fault("acknowledged_by: none: want %s, or a webhook or a tool that is on no step", GateTarget)
	}
	return errors.Join(faults...)
}

// On returns the step, from 1, that a target is on; 0: none.
func (l *Ladder) On(target string) int {
	for i := range l.Steps {
		if l.Steps[i].Target() == target {
			return i + 1
		}
	}
	return 0
}

// acknowledging returns the targets that are on no step and whose 2xx is an
// acknowledgement.
func (l *Ladder) acknowledging(receivers []string) []string {
	if len(l.By) > 0 {
		return l.By
	}
	return slices.DeleteFunc(slices.Clone(receivers), func(name string) bool { return l.On(name) > 0 })
}

// Acknowledges reports whether a target's 2xx ends the climb.
func (l *Ladder) Acknowledges(target string) bool {
	return len(l.By) == 0 || slices.Contains(l.By, target) || l.On(target) > 0
}

// Due returns the step, from 1, that is to begin next, and when: given is when the
// rollback was given, began returns when a step began, if it has. Step 0: all have
// begun.
func (l *Ladder) Due(given time.Time, began func(step int) (time.Time, bool)) (step int, at time.Time) {
	last := given
	for i := range l.Steps {
		b, ok := began(i + 1)
		if !ok {
			return i + 1, last.Add(l.Steps[i].After)
		}
		last = b
	}
	return 0, time.Time{}
}
