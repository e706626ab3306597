package openslo

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/analysis/yamlfile"
	"serin.dev/serin/internal/event"
)

// sourceType is the type of a data source that is evaluated here.
const sourceType = "Serin"

// source is the spec of a metricSource of type Serin: which events of which app.
type source struct {
	App     string           `json:"app"`
	Tenancy string           `json:"tenancy"` // default production
	Unit    string           `json:"unit"`    // event (default), session or user
	Kind    string           `json:"kind"`    // of the events, or any
	Name    Label            `json:"name"`    // a text or a list
	Where   map[string]Label `json:"where"`   // by column; attr.KEY is an attribute
	Not     map[string]Label `json:"not"`
	Fails   string           `json:"fails"` // a guardrail
	Value   *limit           `json:"value"`
}

type limit struct {
	Op    string   `json:"op"`
	Limit *float64 `json:"limit"`
}

const anyKind = "any"

// readSource reads the spec of one metric. Its faults are noted at their lines.
func (c *compiler) readSource(p place, m *metric) (src source, ok bool) {
	p = p.in("metricSource")
	kind := m.MetricSource.Type
	if ref := m.MetricSource.MetricSourceRef; ref != "" {
		o := c.find(KindDataSource, ref)
		if o == nil {
			p.fault("metricSourceRef", strconv.Quote(ref), c.known(KindDataSource))
			return src, false
		}
		named := o.of.(*dataSource).Spec.Type
		if kind != "" && kind != named {
			p.fault("type", strconv.Quote(kind), "none, or the data source's: "+named)
		}
		kind = named
	}
	if kind != sourceType {
		p.fault("type", strconv.Quote(kind), sourceType+": only events that Serin takes itself are evaluated; a query of another system is foreign")
		return src, false
	}
	r := p.obj.reader
	before := len(r.Faults)
	where := p.path + ".spec"
	r.Value(m.MetricSource.Spec.Node, &src, where)
	for _, f := range r.Faults[before:] {
		p.add(f)
	}
	form := slices.Clone(r.Faults[before:])
	r.Faults = r.Faults[:before]
	src.check(func(field, value, want string) {
		if !yamlfile.Faulted(form, where+"."+field) {
			p.in("spec").fault(field, value, want)
		}
	})
	return src, len(form) == 0
}

func (s *source) check(f note) {
	if s.App == "" || len(s.App) > event.MaxName {
		f("app", strconv.Quote(s.App), fmt.Sprintf("the name of an app, 1 to %d bytes", event.MaxName))
	}
	if s.Tenancy == "" {
		s.Tenancy = event.Production.String()
	} else if _, err := event.ParseTenancy(s.Tenancy); err != nil {
		f("tenancy", strconv.Quote(s.Tenancy), "production, test, shadow or synthetic")
	}
	if s.Unit == "" {
		s.Unit = slo.UnitEvent
	}
	f.oneOf("unit", s.Unit, []string{slo.UnitEvent, slo.UnitSession, slo.UnitUser})
	if s.Kind == "" && s.Fails == "" {
		f("kind", absent, "a kind of event, any, or fails")
	}
	if _, ok := event.ParseKind([]byte(s.Kind)); s.Kind != "" && s.Kind != anyKind && !ok {
		f("kind", strconv.Quote(s.Kind), "any, or one of "+strings.Join(event.Kinds(), ", "))
	}
	if _, ok := session.ParseMetric(s.Fails); s.Fails != "" && (!ok || s.Fails == session.Telemetry.String()) {
		names := slices.DeleteFunc(session.Names(), func(n string) bool { return n == session.Telemetry.String() })
		f("fails", strconv.Quote(s.Fails), "one of "+strings.Join(names, ", "))
	}
	for field, of := range map[string]map[string]Label{"where": s.Where, "not": s.Not} {
		for _, name := range slices.Sorted(maps.Keys(of)) {
			at := field + "." + name
			if key, attr := strings.CutPrefix(name, slo.AttrPrefix); attr && (key == "" || strings.ContainsAny(key, "=;%")) || !attr && !slices.Contains(slo.Columns(), name) {
				f(at, strconv.Quote(name), "attr.KEY, with a key without = ; %, or one of "+strings.Join(slo.Columns(), ", "))
			}
			if len(of[name]) == 0 {
				f(at, "nothing", "a text or a list of texts")
			}
			for _, text := range of[name] {
				if strings.HasPrefix(name, slo.AttrPrefix) && strings.ContainsAny(text, "=;%") {
					f(at, strconv.Quote(text), "a text without = ; %")
				}
			}
		}
	}
	if v := s.Value; v != nil {
		f.oneOf("value.op", v.Op, operators)
		if v.Limit == nil {
			f("value.limit", absent, "a number")
		}
	}
}

func (s *source) selector() slo.Selector {
	texts := func(of map[string]Label) map[string][]string {
		if of == nil {
			return nil
		}
		out := map[string][]string{}
		for k, l := range of {
			out[k] = l
		}
		return out
	}
	sel := slo.Selector{Kind: s.Kind, Names: s.Name, Where: texts(s.Where), Not: texts(s.Not), Fails: s.Fails}
	if s.Kind == anyKind {
		sel.Kind = ""
	}
	if s.Value != nil && s.Value.Limit != nil {
		sel.Value = &slo.Threshold{Op: s.Value.Op, Limit: *s.Value.Limit}
	}
	return sel
}
