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

// objectivesOf returns a tenant's objectives by name. The caller holds mu.
func (e *Engine) objectivesOf(tenant string) map[string]*slo.Objective {
	all := map[string]*slo.Objective{}
	for k, b := range e.fold.Books {
		if k.Tenant == tenant {
			all[k.Name] = &b.Objective
		}
	}
	return all
}

// checkBudgets reports what is wrong with the objectives that a rollout's policy
// names, as [canary.Invalid]. have are the tenant's, by name.
func checkBudgets(have map[string]*slo.Objective, r *canary.Rollout) error {
	invalid := &canary.Invalid{}
	one := "an objective of the tenant, which has none"
	if len(have) > 0 {
		one = "one of " + strings.Join(slices.Sorted(maps.Keys(have)), ", ")
	}
	fault := func(field, value, want string) {
		invalid.Faults = append(invalid.Faults, canary.Fault{Field: field, Value: fmt.Sprintf("%q", value), Want: want})
	}
	for _, name := range r.Policy.SLOs {
		if have[name] == nil {
			fault("policy.slos", name, one)
		}
	}
	if l := r.Policy.Budget; l != nil {
		switch o := have[l.SLO]; {
		case o == nil:
			fault("policy.budget.slo", l.SLO, one)
		case o.App != r.App:
			fault("policy.budget.slo", l.SLO, "an objective of the rollout's app; this one is of "+o.App)
		case o.Unit == slo.UnitEvent:
			fault("policy.budget.slo", l.SLO, "an objective whose unit is session or user: events of one client are not independent, and one that loops must not roll back")
		case o.Method != slo.Occurrences:
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
	if s.Action == verdict.Freeze {
		return budgetSays(s) + ": no stage goes on without an exception (serin slo except)"
	}
	return budgetSays(s) + " (serin slo except)"
}

// budgetSays says what is left of a budget that keeps something back, and what its
// policy asks for then.
func budgetSays(s *verdict.SLOState) string {
	left := fmt.Sprintf("%s of the error budget of %s is left, and its policy ", s.Budget.Left(), s.SLO)
	if s.Action == verdict.Freeze {
		return left + "says freeze"
	}
	return left + "asks for an approval"
}

// checkStart returns [ErrBudget] where a rollout may not begin: the budget policy of
// an objective of its app, or of one that its own policy names, says freeze or asks
// for an approval, and no exception lets it pass. Unlike a stage, a beginning asks
// all objectives of the app: a freeze that only those keep who name it is none. One
// that was never evaluated has spent nothing yet and keeps nothing back; a stage
// waits for it. The caller holds mu.
func (e *Engine) checkStart(tenant string, r *canary.Rollout) error {
	var why []string
	for _, k := range e.fold.sloKeys() {
		if k.Tenant != tenant || e.fold.Books[k].Objective.App != r.App && !slices.Contains(r.Policy.SLOs, k.Name) {
			continue
		}
		if s := e.states[stateKey{tenant, k.Name, ""}]; s != nil && s.current.Action != verdict.Allow {
			why = append(why, fmt.Sprintf("%s: want an exception first (serin slo except %s)", budgetSays(&s.current), k.Name))
		}
	}
	if len(why) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrBudget, strings.Join(why, "; "))
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
	return b.Spend(spender(t), l.Share(), t.Rollout.Policy.SpendAlpha(), slo.Question{At: q.At, Position: q.Position, Behind: q.Behind})
}

// spender is a test's rollout as one that spends a budget.
func spender(t *canary.Test) slo.Rollout {
	r := &t.Rollout
	return slo.Rollout{ID: r.ID, Change: r.Change, Canary: r.Canary, Baseline: r.Baseline, Since: t.Created, Arm: r.Arm}
}
