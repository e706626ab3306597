package openslo

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/analysis/verdict"
)

// Serin's own knobs are annotations, so that files stay valid for other tools.
const (
	knobPrefix   = "serin.dev/"
	knobShort    = knobPrefix + "short-window"     // of a condition: default a twelfth of lookbackWindow
	knobForm     = knobPrefix + "form"             // of a condition: burn (default) or excess
	knobGroup    = knobPrefix + "group-by"         // of an SLO: a column
	knobStrata   = knobPrefix + "strata"           // columns, with commas
	knobEvents   = knobPrefix + "min-events"       // units in an alert's long window
	knobUsers    = knobPrefix + "min-users"        // clients with something bad in it
	knobLateness = knobPrefix + "allowed-lateness" // what comes later is a restatement
	knobPolicy   = knobPrefix + "budget-policy"    // approval at 25%, freeze at 0%
	knobAlerts   = knobPrefix + "alerts"           // workbook (default without alertPolicies) or none
	knobTrickle  = knobPrefix + "trickle"          // on (default) or off
)

var sloKnobs = []string{knobGroup, knobStrata, knobEvents, knobUsers, knobLateness, knobPolicy, knobAlerts, knobTrickle}

// metadata returns the object's metadata.
func (o *object) metadata() *Metadata {
	switch v := o.of.(type) {
	case *service:
		return v.Metadata
	case *dataSource:
		return v.Metadata
	case *sli:
		return v.Metadata
	case *alertPolicy:
		return v.Metadata
	case *alertTarget:
		return v.Metadata
	}
	return nil
}

// knobs notes annotations of ours that an object does not have.
func (c *compiler) knobs(p place, m *Metadata, known []string) {
	if m == nil {
		return
	}
	want := "no annotation of " + knobPrefix + " on this object"
	if len(known) > 0 {
		want = "one of " + strings.Join(known, ", ")
	}
	for _, k := range slices.Sorted(maps.Keys(m.Annotations)) {
		if strings.HasPrefix(k, knobPrefix) && !slices.Contains(known, k) {
			p.fault("metadata.annotations."+k, "no such annotation", want)
		}
	}
}

var ruleRE = regexp.MustCompile(`^(approval|freeze) at (-?[0-9]+(?:\.[0-9]+)?) ?%$`)

// The bounds of the knobs.
const (
	maxCount    = 1_000_000
	maxClients  = 64
	maxLateness = 7 * 24 * time.Hour
)

// options fills in what an SLO's annotations say.
func (c *compiler) options(p place, m *Metadata, o *slo.Objective) {
	c.knobs(p, m, sloKnobs)
	o.MinUnits, o.MinClients, o.Lateness = 10, 3, 5*time.Minute
	o.Strata = []string{"platform", "device"}
	knob := func(name string, fn func(v string) (want string)) {
		if v, ok := m.Annotations[name]; ok {
			if want := fn(v); want != "" {
				p.fault("metadata.annotations."+name, strconv.Quote(v), want)
			}
		}
	}
	columns := "of " + strings.Join(slo.Columns(), ", ")
	knob(knobGroup, func(v string) string {
		if o.GroupBy = v; !slices.Contains(slo.Columns(), v) {
			return "one " + columns
		}
		return ""
	})
	knob(knobStrata, func(v string) string {
		o.Strata = nil
		for s := range strings.SplitSeq(v, ",") {
			s = strings.TrimSpace(s)
			if !slices.Contains(slo.Columns(), s) || s == "release" || slices.Contains(o.Strata, s) {
				return "each once, with commas, and not release: some " + columns
			}
			o.Strata = append(o.Strata, s)
		}
		return ""
	})
	knob(knobEvents, func(v string) string {
		n, err := strconv.Atoi(v)
		if o.MinUnits = int64(n); err != nil || n < 0 || n > maxCount {
			return fmt.Sprintf("a whole number, 0 to %d", maxCount)
		}
		return ""
	})
	knob(knobUsers, func(v string) string {
		n, err := strconv.Atoi(v)
		if o.MinClients = n; err != nil || n < 1 || n > maxClients {
			return fmt.Sprintf("a whole number, 1 to %d", maxClients)
		}
		return ""
	})
	knob(knobLateness, func(v string) string {
		d, err := time.ParseDuration(v)
		if o.Lateness = d; err != nil || d < 0 || d > maxLateness {
			return "a duration of 0s to 168h, such as 5m"
		}
		return ""
	})
	knob(knobPolicy, func(v string) string {
		for s := range strings.SplitSeq(v, ",") {
			g := ruleRE.FindStringSubmatch(strings.TrimSpace(s))
			if g == nil {
				return "rules with commas, such as approval at 25%, freeze at 0%"
			}
			left, _ := strconv.ParseFloat(g[2], 64)
			r := slo.Rule{Remaining: left / 100}
			_ = r.Action.UnmarshalText([]byte(g[1])) // the expression has none but actions
			if left > 100 || math.Abs(left) > maxCount || slices.ContainsFunc(o.Policy, func(q slo.Rule) bool { return q.Action == r.Action }) {
				return "each action once, at 100% or less of the budget"
			}
			o.Policy = append(o.Policy, r)
		}
		slices.SortFunc(o.Policy, func(a, b slo.Rule) int { return int(b.Action - a.Action) })
		if len(o.Policy) == 2 && o.Policy[0].Remaining > o.Policy[1].Remaining {
			return "freeze at no more than approval"
		}
		return ""
	})
	knob(knobAlerts, func(v string) string {
		if v != "workbook" && v != "none" {
			return "workbook or none"
		}
		return ""
	})
	knob(knobTrickle, func(v string) string {
		if v != "on" && v != "off" {
			return "on or off"
		}
		return ""
	})
}

// alerts fills in the alerts of one objective, and refuses those that cannot fire.
func (c *compiler) alerts(p place, v *sloObject, o *slo.Objective) {
	ann := v.Metadata.Annotations
	which, chosen := ann[knobAlerts]
	policies := v.Spec.AlertPolicies
	switch {
	case len(policies) > 0 && chosen:
		p.fault("metadata.annotations."+knobAlerts, strconv.Quote(which), "none beside alertPolicies")
		return
	case len(policies) == 0 && which != "none":
		o.Alerts = slo.Defaults(o.Target, o.Window.Period(), o.Slice)
	}
	for i := range policies {
		c.policy(p.in("spec").at("alertPolicies", i), &policies[i], o)
	}
	o.Alerts = slices.DeleteFunc(o.Alerts, func(a slo.Alert) bool { return a.Form == slo.FormTrickle })
	if len(o.Alerts) > 0 && ann[knobTrickle] != "off" || ann[knobTrickle] == "on" {
		t := slo.Trickle()
		for _, a := range o.Alerts { // it is told to whom the pages are told
			if a.Severity == verdict.SeverityPage {
				t.Targets = a.Targets
				break
			}
		}
		o.Alerts = append(o.Alerts, t)
	}
}

func (c *compiler) policy(p place, choice *policyChoice, o *slo.Objective) {
	spec, at := choice.Spec, p.in("spec")
	if ref := choice.AlertPolicyRef; ref != nil {
		found := c.find(KindAlertPolicy, *ref)
		if found == nil {
			p.fault("alertPolicyRef", strconv.Quote(*ref), c.known(KindAlertPolicy))
			return
		}
		spec, at = &found.of.(*alertPolicy).Spec, place{c, found, "spec"}
	} else {
		c.knobs(p, choice.Metadata, nil)
	}
	if !spec.AlertWhenBreaching {
		at.note("alertWhenBreaching", "false", "true, where a breach is to be told: this alert is evaluated and told to nobody")
	}
	a := slo.Alert{WhenBreaching: spec.AlertWhenBreaching, WhenResolved: spec.AlertWhenResolved, WhenNoData: spec.AlertWhenNoData}
	for i := range spec.NotificationTargets {
		t := &spec.NotificationTargets[i]
		target := t.Spec
		if t.TargetRef != nil {
			found := c.find(KindAlertNotificationTarget, *t.TargetRef)
			if found == nil {
				at.at("notificationTargets", i).fault("targetRef", strconv.Quote(*t.TargetRef), c.known(KindAlertNotificationTarget))
				continue
			}
			target = &found.of.(*alertTarget).Spec
		}
		a.Targets = append(a.Targets, target.Target)
	}
	one := &spec.Conditions[0]
	cond, meta, where := one.Spec, one.Metadata, at.at("conditions", 0)
	if one.ConditionRef != nil {
		found := c.find(KindAlertCondition, *one.ConditionRef)
		if found == nil {
			where.fault("conditionRef", strconv.Quote(*one.ConditionRef), c.known(KindAlertCondition))
			return
		}
		v := found.of.(*alertCondition)
		cond, meta, where = v.Spec, v.Metadata, place{c, found, ""}
	} else {
		c.knobs(where, meta, []string{knobShort, knobForm})
	}
	a.Name, a.Severity = meta.Name, cond.Severity
	if slices.ContainsFunc(o.Alerts, func(b slo.Alert) bool { return b.Name == a.Name }) {
		p.fault("alertPolicyRef", strconv.Quote(a.Name), "each condition once in an SLO")
		return
	}
	c.condition(where, meta, cond.Condition, &a, o)
	o.Alerts = append(o.Alerts, a)
}

// condition fills in the windows and the threshold of an alert.
func (c *compiler) condition(p place, m *Metadata, cond *condition, a *slo.Alert, o *slo.Objective) {
	at := p.in("spec.condition")
	if cond.Op == "lt" || cond.Op == "lte" {
		at.note("op", strconv.Quote(cond.Op), "gte: an alert on a low burn rate is read as one on a high one, as the specification's examples mean it")
	}
	period := o.Window.Period()
	var ok bool
	if a.Long, ok = span(cond.LookbackWindow, period); !ok {
		at.fault("lookbackWindow", cond.LookbackWindow.String(), "1m up to the SLO's window, "+o.Window.String()+": a window of zero is none")
		return
	}
	a.Short = max((a.Long / 12).Round(time.Minute), time.Minute)
	if v, set := m.Annotations[knobShort]; set {
		d, err := time.ParseDuration(v)
		if err != nil || d < time.Minute || d%time.Minute != 0 || d > a.Long {
			p.fault("metadata.annotations."+knobShort, strconv.Quote(v), "whole minutes, up to lookbackWindow, such as 5m")
			return
		}
		a.Short = d
	}
	if o.Slice > a.Short {
		at.fault("lookbackWindow", cond.LookbackWindow.String(), fmt.Sprintf("a short window of at least a slice, %v; it is %v", o.Slice, a.Short))
		return
	}
	if cond.AlertAfter != nil && cond.AlertAfter.Value > 0 {
		if a.After, ok = span(*cond.AlertAfter, period); !ok {
			at.fault("alertAfter", cond.AlertAfter.String(), "up to the SLO's window")
		}
	}
	a.Form = slo.FormBurn
	if v, set := m.Annotations[knobForm]; set {
		if a.Form = v; v != slo.FormBurn && v != slo.FormExcess || v == slo.FormExcess && o.Method != slo.Occurrences {
			p.fault("metadata.annotations."+knobForm, strconv.Quote(v), "burn, or with Occurrences excess")
			return
		}
	}
	a.Threshold = *cond.Threshold
	c.feasible(at, a, o)
}

// feasible refuses an alert that can never fire, and says what would work.
func (c *compiler) feasible(p place, a *slo.Alert, o *slo.Objective) {
	if !(a.Threshold > 0) || math.IsInf(a.Threshold, 1) {
		p.fault("threshold", number(a.Threshold), "above 0")
		return
	}
	if a.Form == slo.FormBurn && a.Severity == verdict.SeverityPage && a.Threshold < 1 {
		p.fault("threshold", number(a.Threshold), "1 or more for a page: below it the budget lasts longer than its window")
		return
	}
	if n := o.Evidence(); a.Form == slo.FormBurn && n > maxCount {
		p.fault("threshold", number(a.Threshold), fmt.Sprintf("a target that is not next to 0: under %s as much may be bad as there is, so that only %d bad ones without a good one would be evidence, and it can never fire", number(o.Target), n))
		return
	}
	most := slo.MaxBurn(o.Target)
	if a.Form == slo.FormExcess {
		most--
	}
	shown := strconv.FormatFloat(most, 'g', 4, 64)
	switch slo.CanFire(a.Form, a.Threshold, o.Target) {
	case slo.Infeasible:
		want := fmt.Sprintf("below %s: under a target of %s nothing burns faster, with everything bad, so that it can never fire", shown, number(o.Target))
		if half := math.Floor(most*5) / 10; half >= 1 {
			want += "; " + number(half) + " would"
		}
		if excess := slo.MaxBurn(o.Target) - 1; a.Form == slo.FormBurn && excess > 0 {
			want += fmt.Sprintf("; or the annotation %s: excess with a threshold below %s, such as %s", knobForm, strconv.FormatFloat(excess, 'g', 4, 64), number(math.Ceil(excess*25)/100))
		}
		p.fault("threshold", number(a.Threshold), want)
	case slo.Strained:
		p.note("threshold", number(a.Threshold), fmt.Sprintf("%s or less: it fires only with more than half of everything bad; the most is %s", strconv.FormatFloat(most/2, 'g', 4, 64), shown))
	}
}
