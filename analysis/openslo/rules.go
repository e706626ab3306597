package openslo

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"serin.dev/serin/analysis/yamlfile"
)

// The rules of the specification's Go SDK (github.com/OpenSLO/go-sdk, package
// v1), restated: a file is accepted here where it is accepted there.

// note is called for each fault: the field's path, its value, what is allowed.
type note func(field, value, want string)

// in returns a note for the fields below one.
func (f note) in(path string) note {
	return func(field, value, want string) {
		switch {
		case field == "":
			field = path
		case field[0] == '[':
			field = path + field
		default:
			field = path + "." + field
		}
		f(field, value, want)
	}
}

func (f note) at(path string, i int) note { return f.in(fmt.Sprintf("%s[%d]", path, i)) }

const absent = "absent"

var (
	dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	labelKey = regexp.MustCompile(`^[a-zA-Z0-9]([-._a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$`)
	// An annotation's key is a name, or a domain, a slash and a name, as in
	// Kubernetes.
	annotationLength = regexp.MustCompile(`^(.{0,253}/)?.{0,63}$`)
	annotationKey    = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*/)?[a-zA-Z0-9]([-._a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$`)
)

const (
	maxDescription = 1050
	maxDisplayName = 63
	dnsWant        = "1 to 63 of a-z 0-9 -, beginning and ending with a letter or digit"
)

var operators = []string{"gt", "gte", "lt", "lte"}

func (f note) name(field, value string) {
	if len(value) > 63 || !dnsLabel.MatchString(value) {
		f(field, strconv.Quote(value), dnsWant)
	}
}

func (f note) text(field, value string, most int) {
	if n := utf8.RuneCountInString(value); n > most {
		f(field, fmt.Sprintf("%d characters", n), fmt.Sprintf("at most %d", most))
	}
}

func (f note) required(field, value string) {
	if value == "" {
		f(field, absent, "a text")
	}
}

func (f note) oneOf(field, value string, names []string) {
	if value == "" {
		f(field, absent, "one of "+strings.Join(names, ", "))
	} else if !slices.Contains(names, value) {
		f(field, strconv.Quote(value), "one of "+strings.Join(names, ", "))
	}
}

func (m *Metadata) check(f note) {
	if m == nil || m.Name == "" && m.DisplayName == "" && m.Labels == nil && m.Annotations == nil {
		f("", absent, "a mapping with a name")
		return
	}
	f.name("name", m.Name)
	f.text("displayName", m.DisplayName, maxDisplayName)
	for k := range m.Labels {
		if !labelKey.MatchString(k) {
			f("labels."+k, strconv.Quote(k), "a key of 1 to 63 of A-Z a-z 0-9 . _ -, beginning and ending with a letter or digit")
		}
	}
	for k := range m.Annotations {
		if !annotationLength.MatchString(k) || !annotationKey.MatchString(k) {
			f("annotations."+k, strconv.Quote(k), "a key such as my-domain.org/my-key: a domain and a slash, or none, and 1 to 63 of A-Z a-z 0-9 . _ -")
		}
	}
}

func (d Duration) check(f note) {
	switch d.Unit {
	case "m", "h", "d", "w", "M", "Q", "Y":
		if d.Value < 0 {
			f("", d.String(), durationWant)
		}
	case "?":
	case "":
		f("", absent, durationWant)
	default:
		f("", d.String(), durationWant)
	}
}

// exactly notes where not exactly one of the named things is there.
func (f note) exactly(names []string, there ...bool) {
	var set []string
	for i, is := range there {
		if is {
			set = append(set, names[i])
		}
	}
	switch {
	case len(set) == 0:
		f("", "none of "+strings.Join(names, ", "), "exactly one of them")
	case len(set) > 1:
		f("", strings.Join(set, " and "), "exactly one of "+strings.Join(names, ", "))
	}
}

func (s *service) check(f note) { f.in("spec").text("description", s.Spec.Description, maxDescription) }

func (d *dataSource) check(f note) {
	f = f.in("spec")
	f.text("description", d.Spec.Description, maxDescription)
	f.required("type", d.Spec.Type)
	if d.Spec.ConnectionDetails.Node == nil {
		f("connectionDetails", absent, "a mapping; {} where there is nothing to say")
	}
}

func (s *sli) check(f note) { s.Spec.check(f.in("spec")) }

func (s *sliSpec) check(f note) {
	f.text("description", s.Description, maxDescription)
	f.exactly([]string{"thresholdMetric", "ratioMetric"}, s.ThresholdMetric != nil, s.RatioMetric != nil)
	s.ThresholdMetric.check(f.in("thresholdMetric"))
	m := s.RatioMetric
	if m == nil {
		return
	}
	f = f.in("ratioMetric")
	f.exactly([]string{"total", "raw"}, m.Total != nil, m.Raw != nil)
	var set []string
	for _, one := range []struct {
		name string
		m    *metric
	}{{"raw", m.Raw}, {"good", m.Good}, {"bad", m.Bad}} {
		if one.m != nil {
			set = append(set, one.name)
		}
	}
	if len(set) > 1 {
		f("", strings.Join(set, " and "), "at most one of raw, good, bad")
	}
	if m.Total != nil {
		if m.Good == nil && m.Bad == nil {
			f("", "neither good nor bad", "one of them beside total")
		}
		m.Total.check(f.in("total"))
		m.Good.check(f.in("good"))
		m.Bad.check(f.in("bad"))
	}
	if m.Raw != nil {
		m.Raw.check(f.in("raw"))
		f.oneOf("rawType", m.RawType, []string{"success", "failure"})
	}
}

func (m *metric) check(f note) {
	if m == nil {
		return
	}
	f = f.in("metricSource")
	s := m.MetricSource
	if s == nil || s.MetricSourceRef == "" && s.Type == "" && s.Spec.Node == nil {
		f("", absent, "a mapping with a spec")
		return
	}
	if s.MetricSourceRef != "" {
		f.name("metricSourceRef", s.MetricSourceRef)
	}
	switch n := s.Spec.Node; {
	case n == nil || n.Tag == "!!null" || n.Kind == yaml.MappingNode && len(n.Content) == 0:
		f("spec", absent, "a mapping that says which events")
	case n.Kind != yaml.MappingNode:
		f("spec", yamlfile.Shown(n), "a mapping that says which events")
	}
}

func (s *inlineSLI) check(f note) {
	s.Metadata.check(f.in("metadata"))
	s.Spec.check(f.in("spec"))
}

func checkIndicator(f note, inline *inlineSLI, ref *string) {
	if inline == nil && ref == nil {
		return
	}
	if inline != nil && ref != nil {
		f("", "indicator and indicatorRef", "one of them")
		return
	}
	if inline != nil {
		inline.check(f.in("indicator"))
	} else {
		f.name("indicatorRef", *ref)
	}
}

// The budgeting methods.
const (
	methodOccurrences     = "Occurrences"
	methodTimeslices      = "Timeslices"
	methodRatioTimeslices = "RatioTimeslices"
)

func (s *sloSpec) composite() bool {
	return slices.ContainsFunc(s.Objectives, func(o objective) bool { return o.Indicator != nil || o.IndicatorRef != nil })
}

func (o *sloObject) check(f note) {
	f = f.in("spec")
	s := o.Spec
	if s == nil {
		f("", absent, "a mapping")
		return
	}
	switch own, composite := s.Indicator != nil || s.IndicatorRef != nil, s.composite(); {
	case !own && !composite:
		f("indicator", absent, "indicator or indicatorRef, here or in each objective")
	case own && composite:
		f("indicator", "here and in objectives", "indicator or indicatorRef, here or in each objective, and not both")
	}
	checkIndicator(f, s.Indicator, s.IndicatorRef)
	f.text("description", s.Description, maxDescription)
	f.required("service", s.Service)
	f.oneOf("budgetingMethod", s.BudgetingMethod, []string{methodOccurrences, methodTimeslices, methodRatioTimeslices})
	if n := len(s.TimeWindow); n != 1 {
		f("timeWindow", fmt.Sprintf("%d windows", n), "exactly one")
	}
	for i := range s.TimeWindow {
		s.TimeWindow[i].check(f.at("timeWindow", i))
	}
	for i := range s.AlertPolicies {
		s.AlertPolicies[i].check(f.at("alertPolicies", i))
	}
	for i := range s.Objectives {
		s.Objectives[i].check(f.at("objectives", i), s)
	}
}

func (w *timeWindow) check(f note) {
	if w.IsRolling && w.Calendar != nil {
		f("calendar", "set", "none, where isRolling is true")
	}
	if !w.IsRolling && w.Calendar == nil {
		f("calendar", absent, "a calendar, where isRolling is false")
	}
	w.Duration.check(f.in("duration"))
	if c := w.Calendar; c != nil {
		if _, err := time.Parse(time.DateTime, c.StartTime); err != nil {
			f("calendar.startTime", strconv.Quote(c.StartTime), "a time such as 2026-01-01 00:00:00")
		}
		if _, err := time.LoadLocation(c.TimeZone); err != nil || c.TimeZone == "" || c.TimeZone == "Local" {
			f("calendar.timeZone", strconv.Quote(c.TimeZone), "a zone of the IANA database, such as Europe/Berlin")
		}
	}
}

func (o *objective) check(f note, s *sloSpec) {
	f.exactly([]string{"target", "targetPercent"}, o.Target != nil, o.TargetPercent != nil)
	if t := o.Target; t != nil && !(*t >= 0 && *t < 1) {
		f("target", number(*t), "0 or more, below 1")
	}
	if t := o.TargetPercent; t != nil && !(*t >= 0 && *t < 100) {
		f("targetPercent", number(*t), "0 or more, below 100")
	}
	if s.BudgetingMethod == methodTimeslices {
		if t := o.TimeSliceTarget; t == nil {
			f("timeSliceTarget", absent, "above 0, at most 1")
		} else if !(*t > 0 && *t <= 1) {
			f("timeSliceTarget", number(*t), "above 0, at most 1")
		}
	}
	if s.BudgetingMethod == methodTimeslices || s.BudgetingMethod == methodRatioTimeslices {
		if o.TimeSliceWindow == nil {
			f("timeSliceWindow", absent, durationWant)
		} else {
			o.TimeSliceWindow.check(f.in("timeSliceWindow"))
		}
	}
	if in := s.Indicator; in != nil && in.Spec.RatioMetric != nil {
		if o.Value != nil {
			f("value", number(*o.Value), "none with a ratioMetric")
		}
		if o.Op != "" {
			f("op", strconv.Quote(o.Op), "none with a ratioMetric")
		}
	}
	if in := s.Indicator; in != nil && in.Spec.ThresholdMetric != nil {
		if o.Value == nil {
			f("value", absent, "a number, with a thresholdMetric")
		}
		f.oneOf("op", o.Op, operators)
	}
	if s.composite() {
		checkIndicator(f, o.Indicator, o.IndicatorRef)
		if w := o.CompositeWeight; w != nil && !(*w > 0) {
			f("compositeWeight", number(*w), "above 0")
		}
	}
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// choice checks what is either a reference or a whole object.
func choice(f note, field, kind string, ref, ownKind *string, m *Metadata, spec bool) (inline bool) {
	inline = ownKind != nil || m != nil || spec
	if (ref != nil) == inline {
		f.exactly([]string{field, "spec"}, ref != nil, inline)
		return false
	}
	if ref != nil {
		f.name(field, *ref)
		return false
	}
	if ownKind == nil || *ownKind != kind {
		shown := absent
		if ownKind != nil {
			shown = strconv.Quote(*ownKind)
		}
		f("kind", shown, kind)
	}
	m.check(f.in("metadata"))
	if !spec {
		f("spec", absent, "a mapping")
	}
	return spec
}

func (p *policyChoice) check(f note) {
	if choice(f, "alertPolicyRef", KindAlertPolicy, p.AlertPolicyRef, p.Kind, p.Metadata, p.Spec != nil) {
		p.Spec.check(f.in("spec"))
	}
}

func (a *alertPolicy) check(f note) { a.Spec.check(f.in("spec")) }

func (s *alertPolicySpec) check(f note) {
	f.text("description", s.Description, maxDescription)
	if n := len(s.Conditions); n != 1 {
		f("conditions", fmt.Sprintf("%d conditions", n), "exactly one")
	}
	for i := range s.Conditions {
		c, at := &s.Conditions[i], f.at("conditions", i)
		if choice(at, "conditionRef", KindAlertCondition, c.ConditionRef, c.Kind, c.Metadata, c.Spec != nil) {
			c.Spec.check(at.in("spec"))
		}
	}
	if len(s.NotificationTargets) == 0 {
		f("notificationTargets", absent, "at least one")
	}
	for i := range s.NotificationTargets {
		t, at := &s.NotificationTargets[i], f.at("notificationTargets", i)
		if choice(at, "targetRef", KindAlertNotificationTarget, t.TargetRef, t.Kind, t.Metadata, t.Spec != nil) {
			t.Spec.check(at.in("spec"))
		}
	}
}

func (a *alertCondition) check(f note) {
	if a.Spec == nil {
		f("spec", absent, "a mapping")
		return
	}
	a.Spec.check(f.in("spec"))
}

func (s *conditionSpec) check(f note) {
	f.text("description", s.Description, maxDescription)
	f.required("severity", s.Severity)
	f = f.in("condition")
	c := s.Condition
	if c == nil {
		f("", absent, "a mapping")
		return
	}
	f.oneOf("kind", c.Kind, []string{"burnrate"})
	if c.Kind != "burnrate" {
		return
	}
	f.oneOf("op", c.Op, operators)
	if c.Threshold == nil {
		f("threshold", absent, "a number")
	}
	c.LookbackWindow.check(f.in("lookbackWindow"))
	if c.AlertAfter != nil {
		c.AlertAfter.check(f.in("alertAfter"))
	}
}

func (a *alertTarget) check(f note) { a.Spec.check(f.in("spec")) }

func (s *targetSpec) check(f note) {
	f.required("target", s.Target)
	f.text("description", s.Description, maxDescription)
}
