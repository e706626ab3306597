package openslo

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/analysis/yamlfile"
)

// Note is something that is valid, and likely not what was meant.
type Note struct {
	File string
	yamlfile.Fault
}

// String returns the note on one line.
func (n Note) String() string { return fmt.Sprintf("%s:%d: %s", n.File, n.Line, n.Fault) }

// place is a field of an object, for faults.
type place struct {
	c    *compiler
	obj  *object
	path string
}

func (p place) in(field string) place {
	if p.path != "" {
		field = p.path + "." + field
	}
	p.path = field
	return p
}

func (p place) at(field string, i int) place { return p.in(fmt.Sprintf("%s[%d]", field, i)) }

func (p place) add(f yamlfile.Fault) {
	if all := p.c.faults[p.obj.file]; !slices.Contains(all, f) { // what two objectives share is told once
		p.c.faults[p.obj.file] = append(all, f)
	}
}

func (p place) fault(field, value, want string) { p.add(p.obj.fault(p.in(field).path, value, want)) }

func (p place) note(field, value, want string) {
	n := Note{p.obj.file, p.obj.fault(p.in(field).path, value, want)}
	if !slices.Contains(p.c.notes, n) {
		p.c.notes = append(p.c.notes, n)
	}
}

type compiler struct {
	objects []*object
	faults  map[string][]yamlfile.Fault // by file
	notes   []Note
}

// Compile makes objectives of the objects of some files, which may refer to one
// another. What cannot be evaluated is a fault with its reason; the error joins a
// [*yamlfile.Faults] of each file that has any. An SLO with several objectives
// becomes as many, of which those after the first have .2, .3 and so on after
// their names. Objectives are in the order of the files.
func Compile(files ...*File) ([]slo.Objective, []Note, error) {
	c := &compiler{faults: map[string][]yamlfile.Fault{}}
	for _, f := range files {
		for _, o := range f.objects {
			if first := c.find(o.kind, o.name); first != nil {
				place{c, o, ""}.fault("metadata.name", strconv.Quote(o.name), fmt.Sprintf("each %s once; there is one in %s, line %d", o.kind, first.file, first.reader.Line("metadata.name")))
			}
			c.objects = append(c.objects, o)
		}
	}
	var all []slo.Objective
	for _, o := range c.objects {
		if o.kind != KindSLO && o.kind != KindAlertCondition {
			c.knobs(place{c, o, ""}, o.metadata(), nil)
		}
		switch v := o.of.(type) {
		case *dataSource:
			if t := v.Spec.Type; t != sourceType {
				place{c, o, ""}.note("spec.type", strconv.Quote(t), sourceType+", where it is to be evaluated: this one is foreign, and only kept")
			}
		case *alertCondition:
			c.knobs(place{c, o, ""}, v.Metadata, []string{knobShort, knobForm})
		case *sloObject:
			all = append(all, c.slo(place{c, o, ""}, v)...)
		}
	}
	var errs []error
	for _, f := range files {
		if err := told(f.Name, c.faults[f.Name]); err != nil {
			errs = append(errs, err)
		}
		delete(c.faults, f.Name) // files of one name are told once
	}
	return all, c.notes, errors.Join(errs...)
}

func (c *compiler) find(kind, name string) *object {
	for _, o := range c.objects {
		if o.kind == kind && o.name == name {
			return o
		}
	}
	return nil
}

// known says which objects of a kind there are.
func (c *compiler) known(kind string) string {
	var names []string
	for _, o := range c.objects {
		if o.kind == kind {
			names = append(names, o.name)
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("the name of %s beside it; there is none", yamlfile.A(kind))
	}
	slices.Sort(names)
	return fmt.Sprintf("the name of %s beside it: one of %s", yamlfile.A(kind), strings.Join(names, ", "))
}

// The bounds of windows.
const (
	maxPeriod  = 366 * 24 * time.Hour
	maxSliced  = 92 * 24 * time.Hour // of a window with timeslices, of which all minutes are kept
	maxSlice   = 24 * time.Hour
	minuteStep = time.Minute
)

func (c *compiler) slo(p place, v *sloObject) []slo.Objective {
	s := v.Spec
	spec := p.in("spec")
	if s.composite() {
		spec.fault("objectives", "composite", "one indicator for the SLO: composites are valid, and are not evaluated yet")
		return nil
	}
	if len(s.Objectives) == 0 {
		spec.fault("objectives", "none", "at least one, with a target")
		return nil
	}
	// The specification lets a service be named that no object describes. Where some
	// are described, one that is not is more likely misspelt.
	if c.find(KindService, s.Service) == nil && slices.ContainsFunc(c.objects, func(o *object) bool { return o.kind == KindService }) {
		spec.note("service", strconv.Quote(s.Service), c.known(KindService))
	}
	base := slo.Objective{Name: v.Metadata.Name, Service: s.Service, DisplayName: v.Metadata.DisplayName, Description: s.Description,
		Annotations: v.Metadata.Annotations, Method: s.BudgetingMethod, Window: c.window(spec.at("timeWindow", 0), &s.TimeWindow[0], s.BudgetingMethod)}
	for k, l := range v.Metadata.Labels {
		if base.Labels == nil {
			base.Labels = map[string][]string{}
		}
		base.Labels[k] = l
	}
	var indicator *sliSpec
	at := spec.in("indicator.spec")
	if s.Indicator != nil {
		indicator = &s.Indicator.Spec
		c.knobs(spec.in("indicator"), s.Indicator.Metadata, nil)
	} else {
		o := c.find(KindSLI, *s.IndicatorRef)
		if o == nil {
			spec.fault("indicatorRef", strconv.Quote(*s.IndicatorRef), c.known(KindSLI))
			return nil
		}
		indicator, at = &o.of.(*sli).Spec, place{c, o, "spec"}
	}
	c.indicator(at, indicator, &base)
	c.options(p, v.Metadata, &base)
	var all []slo.Objective
	for i := range s.Objectives {
		o := base
		if i > 0 {
			o.Name = fmt.Sprintf("%s.%d", base.Name, i+1)
		}
		c.objective(spec.at("objectives", i), &s.Objectives[i], indicator, &o)
		c.alerts(p, v, &o)
		all = append(all, o)
	}
	return all
}

// objective fills in what one objective of an SLO says.
func (c *compiler) objective(p place, of *objective, in *sliSpec, o *slo.Objective) {
	if of.DisplayName != "" {
		o.DisplayName = of.DisplayName
	}
	if of.Target != nil {
		o.Target = *of.Target
	} else {
		o.Target = *of.TargetPercent / 100
	}
	if in.ThresholdMetric != nil {
		// The specification's SDK can check these for an inlined indicator alone.
		if of.Value == nil {
			p.fault("value", absent, "a number, with a thresholdMetric")
		} else if !slices.Contains(operators, of.Op) {
			p.fault("op", strconv.Quote(of.Op), "one of "+strings.Join(operators, ", "))
		} else {
			o.Threshold = &slo.Threshold{Op: of.Op, Limit: *of.Value}
		}
	} else if of.Op != "" || of.Value != nil {
		p.fault("op", "set", "neither op nor value, with a ratioMetric")
	}
	if o.Method == slo.Occurrences {
		return
	}
	if o.Method == slo.Timeslices {
		o.SliceTarget = *of.TimeSliceTarget
	}
	d, ok := span(*of.TimeSliceWindow, maxSlice)
	if !ok || d > o.Window.Period() {
		p.fault("timeSliceWindow", of.TimeSliceWindow.String(), "1m to 1d, and at most the SLO's window")
	}
	o.Slice = d
}

// span returns a duration that is above 0 and at most a bound.
func span(d Duration, most time.Duration) (time.Duration, bool) {
	w := slo.Window{Count: d.Value, Unit: d.Unit}
	if d.Value < 1 || d.Value > int(maxPeriod/time.Minute) || w.Period() > most || w.Period() <= 0 {
		return minuteStep, false
	}
	return w.Period(), true
}

func (c *compiler) window(p place, w *timeWindow, method string) slo.Window {
	out := slo.Window{Count: w.Duration.Value, Unit: w.Duration.Unit, Rolling: w.IsRolling}
	most, want := maxPeriod, "1m to 366d: a window of zero is none"
	if method != slo.Occurrences {
		most, want = maxSliced, "1m to 92d with timeslices"
	}
	if _, ok := span(w.Duration, most); !ok {
		p.fault("duration", w.Duration.String(), want)
		out.Count, out.Unit = 1, "d"
	}
	if w.Calendar != nil {
		out.Start, out.Zone = w.Calendar.StartTime, w.Calendar.TimeZone
		if t, err := time.Parse(time.DateTime, out.Start); err == nil && t.Unix()%900 != 0 {
			p.fault("calendar.startTime", strconv.Quote(out.Start), "a whole quarter of an hour")
		}
		if (out.Unit == "m" || out.Unit == "h") && out.Period()%(15*time.Minute) != 0 {
			p.fault("duration", w.Duration.String(), "whole quarters of an hour, in a calendar")
		}
	}
	return out
}

// indicator fills in which events count, and which of them are good.
func (c *compiler) indicator(p place, in *sliSpec, o *slo.Objective) {
	if in.ThresholdMetric != nil {
		src, ok := c.readSource(p.in("thresholdMetric"), in.ThresholdMetric)
		if ok {
			o.App, o.Tenancy, o.Unit, o.Total = src.App, src.Tenancy, src.Unit, src.selector()
		}
		return
	}
	p = p.in("ratioMetric")
	m := in.RatioMetric
	if m.Raw != nil {
		p.fault("raw", "set", "total with good or bad: a ratio that was computed elsewhere cannot be cut by release, nor its budget attributed")
		return
	}
	if !m.Counter {
		p.note("counter", "false", "true: what Serin counts are events, and the field changes nothing")
	}
	total, ok := c.readSource(p.in("total"), m.Total)
	part, name := m.Good, "good"
	if part == nil {
		part, name = m.Bad, "bad"
	}
	of, okPart := c.readSource(p.in(name), part)
	if !ok || !okPart {
		return
	}
	at := p.in(name + ".metricSource.spec")
	for _, same := range []struct{ field, part, total string }{{"app", of.App, total.App}, {"unit", of.Unit, total.Unit}, {"tenancy", of.Tenancy, total.Tenancy}} {
		if same.part != same.total {
			at.fault(same.field, strconv.Quote(same.part), "that of total, "+strconv.Quote(same.total))
		}
	}
	o.App, o.Tenancy, o.Unit, o.Total = total.App, total.Tenancy, total.Unit, total.selector()
	sel := of.selector()
	if name == "good" {
		o.Good = &sel
	} else {
		o.Bad = &sel
	}
}
