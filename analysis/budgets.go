package analysis

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/analysis/verdict"
)

// checkBudgets reports what is wrong with the objectives that a rollout's policy
// names, as [canary.Invalid]. The caller holds mu.
func (e *Engine) checkBudgets(tenant string, r *canary.Rollout) error {
	invalid := &canary.Invalid{}
	var known []string
	for k := range maps.Keys(e.fold.Books) {
		if k.Tenant == tenant {
			known = append(known, k.Name)
		}
	}
	slices.Sort(known)
	one := "an objective of the tenant, which has none"
	if len(known) > 0 {
		one = "one of " + strings.Join(known, ", ")
	}
	fault := func(field, value, want string) {
		invalid.Faults = append(invalid.Faults, canary.Fault{Field: field, Value: fmt.Sprintf("%q", value), Want: want})
	}
	for _, name := range r.Policy.SLOs {
		if e.fold.Books[sloKey{tenant, name}] == nil {
			fault("policy.slos", name, one)
		}
	}
	if l := r.Policy.Budget; l != nil {
		switch b := e.fold.Books[sloKey{tenant, l.SLO}]; {
		case b == nil:
			fault("policy.budget.slo", l.SLO, one)
		case b.Objective.App != r.App:
			fault("policy.budget.slo", l.SLO, "an objective of the rollout's app; this one is of "+b.Objective.App)
		case b.Objective.Unit == slo.UnitEvent:
			fault("policy.budget.slo", l.SLO, "an objective whose unit is session or user: events of one client are not independent, and one that loops must not roll back")
		case b.Objective.Method != slo.Occurrences:
			fault("policy.budget.slo", l.SLO, "an objective of the method Occurrences: slices of time are nobody's in particular")
		}
	}
	if len(invalid.Faults) > 0 {
		return invalid
	}
	return nil
}

// withheld returns the objectives of a test's policy whose error budget lets no stage
// go on. One that is not there, or was not evaluated, lets none: absence is a hold.
// The caller holds mu.
func (e *Engine) withheld(t *canary.Test) (all []verdict.Withheld) {
	for _, name := range t.Rollout.Policy.SLOs {
		s := e.states[stateKey{t.Tenant, name, ""}]
		switch {
		case e.fold.Books[sloKey{t.Tenant, name}] == nil:
			all = append(all, verdict.Withheld{SLO: name, Action: verdict.Freeze, Why: fmt.Sprintf("there is no objective %s any more, whose error budget the policy asks for", name)})
		case s == nil:
			all = append(all, verdict.Withheld{SLO: name, Action: verdict.Freeze, Why: fmt.Sprintf("the objective %s was not evaluated yet", name)})
		case s.current.Action != verdict.Allow:
			all = append(all, verdict.Withheld{SLO: name, Action: s.current.Action, Why: withheldWhy(&s.current)})
		}
	}
	return all
}

func withheldWhy(s *verdict.SLOState) string {
	left := fmt.Sprintf("%.3g %% of the error budget of %s is left", 100*float64(s.Budget.Remaining), s.SLO)
	if s.Action == verdict.Freeze {
		return left + ", and its policy says freeze: no stage goes on without an exception (serin slo except)"
	}
	return left + ", and its policy asks for an approval (serin slo except)"
}

// spend returns what a test's canary spent of the error budget that its policy
// bounds; nil where it bounds none, or there is no such objective.
func (f *fold) spend(t *canary.Test, q canary.Question) *verdict.Spend {
	l := t.Rollout.Policy.Budget
	if l == nil {
		return nil
	}
	b := f.Books[sloKey{t.Tenant, l.SLO}]
	if b == nil {
		return &verdict.Spend{SLO: l.SLO, Excess: verdict.Unknown, Lo: verdict.Unknown, Hi: verdict.Unknown, Refused: "there is no such objective any more"}
	}
	r := slo.Rollout{Change: t.Rollout.Change, Canary: t.Rollout.Canary, Baseline: t.Rollout.Baseline, Since: t.Created, Arm: t.Rollout.Arm}
	return b.Spend(r, l.Share(), t.Rollout.Policy.SpendAlpha(), slo.Question{At: q.At, Position: q.Position, Behind: q.Behind})
}
