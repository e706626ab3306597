// Package report reads what browsers and raw libraries send of themselves: the
// bodies of the W3C Reporting API with Network Error Logging, and objects of the
// web-vitals library sent as they are. Neither names an app, a release or a
// session: the first two stand in the address that the page's owner configures,
// and what one browser sends within half an hour is one session.
// docs/formats/report.md has the details.
package report

import (
	"strings"

	"github.com/valyala/fastjson"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

// maxReports bounds the reports of one body.
const maxReports = 200

// source reads app and release from the query, and the rest from the browser.
func source(r *dialect.Request, agent string, at int64) dialect.Source {
	if agent == "" {
		agent = r.Header["user-agent"]
	}
	s := dialect.Source{App: r.Query("app"), Release: r.Query("release"), Env: r.Query("env"), Tenancy: r.Query("tenancy"), Session: r.Query("session"), User: r.Query("user")}
	if s.Session == "" {
		s.Session = dialect.Anonymous(r, agent, at)
	}
	dialect.Agent(&s.Ctx, agent)
	return s
}

func list(r *dialect.Request) ([]*fastjson.Value, error) {
	v, err := r.JSON(r.Body)
	if err != nil {
		return nil, dialect.NotJSON(r.Body)
	}
	items := []*fastjson.Value{v}
	if v.Type() == fastjson.TypeArray {
		items = v.GetArray()
	} else if v.Type() != fastjson.TypeObject {
		return nil, &dialect.Error{Reason: event.ReasonType, Field: "body", Value: v.Type().String(), Want: "an object or an array of objects"}
	}
	if len(items) > maxReports {
		return nil, &dialect.Error{Reason: event.ReasonCount, Field: "body", Value: "more", Want: "at most 200 items"}
	}
	return items, nil
}

// DecodeReports decodes a body of the Reporting API, or a CSP report in its
// legacy form.
func DecodeReports(r *dialect.Request) (dialect.Result, error) {
	items, err := list(r)
	if err != nil {
		return dialect.Result{}, err
	}
	b := dialect.NewBuilder(r)
	for _, v := range items {
		if v.Type() != fastjson.TypeObject {
			b.Reject(event.ReasonType, "report", v.Type().String(), "an object with type and body")
			continue
		}
		if old := v.Get("csp-report"); old != nil {
			s := source(r, "", r.Now)
			s.SDK, s.Ctx.Page = "csp-report", dialect.Path(dialect.Text(old, "document-uri"))
			b.Add(s, violation(r.Now, dialect.Text(old, "effective-directive"), dialect.Text(old, "violated-directive"), dialect.Text(old, "blocked-uri"), dialect.Text(old, "disposition")))
			continue
		}
		reported(b, r, v)
	}
	return b.Result(), nil
}

func violation(at int64, directive, older, blocked, disposition string) event.One {
	if directive == "" {
		directive = older
	}
	blocked, _, _ = strings.Cut(blocked, "?")
	blocked, _, _ = strings.Cut(blocked, "#")
	return event.One{Kind: event.Event, Name: "csp-violation", Time: at, Attrs: []event.Attr{
		dialect.TextAttr("directive", directive), dialect.TextAttr("blocked", blocked), // with its host, which the policy is about
		dialect.TextAttr("disposition", disposition)}}
}

func reported(b *dialect.Builder, r *dialect.Request, v *fastjson.Value) {
	age, _ := dialect.Number(v, "age")
	if age < 0 || age > event.MaxAgeMS {
		b.Reject(event.ReasonClock, "age", dialect.Text(v, "age"), "0 to 7 days in ms")
		return
	}
	// The age is by a clock that only counts, so that it is right where the
	// client's time of day is years off.
	at := r.Now - int64(age)
	s := source(r, dialect.Text(v, "user_agent"), at)
	s.SDK, s.Ctx.Page = "reporting-api", dialect.Path(dialect.Text(v, "url"))
	if s.Ctx.Browser != "" {
		s.SDK += "/" + strings.ReplaceAll(s.Ctx.Browser, " ", "-")
	}
	body := v.Get("body")
	kind := dialect.Text(v, "type")
	text := func(key string) event.Attr { return dialect.TextAttr(key, dialect.Text(body, key)) }
	switch kind {
	case "crash":
		reason := dialect.Text(body, "reason")
		e := event.One{Kind: event.Crash, Name: reason, Time: at, Stack: dialect.Text(body, "stack"), Attrs: []event.Attr{text("visibility_state")}}
		switch reason {
		case "unresponsive":
			e.Kind = event.ANR
		case "":
			e.Name = "crash"
		}
		b.Add(s, e)
	case "network-error":
		network(b, s, body, at)
	case "csp-violation":
		b.Add(s, violation(at, dialect.Text(body, "effectiveDirective"), "", dialect.Text(body, "blockedURL"), dialect.Text(body, "disposition")))
	case "deprecation", "intervention", "permissions-policy-violation", "coep", "coop", "document-policy-violation", "integrity-violation":
		id := dialect.Text(body, "id")
		if id == "" {
			id = dialect.Text(body, "policyId") // permissions policy; the page's own observer calls it featureId
		}
		b.Add(s, event.One{Kind: event.Event, Name: kind, Time: at, Message: dialect.Text(body, "message"), Attrs: []event.Attr{dialect.TextAttr("id", id)}})
	default:
		b.Ignore(kind)
	}
}

// network takes a report of Network Error Logging. Successes are reported too,
// sampled: they are counted and make no event, since requests are told by the
// SDK as well.
func network(b *dialect.Builder, s dialect.Source, body *fastjson.Value, at int64) {
	kind := dialect.Text(body, "type")
	if kind == "ok" {
		b.Ignore("network-error/ok")
		return
	}
	ms, ok := dialect.Number(body, "elapsed_time")
	e := event.One{Kind: event.NetFail, Name: kind, Time: at, Value: ms, HasVal: ok && ms >= 0, Unit: "ms"}
	for _, key := range []string{"phase", "method", "protocol"} {
		e.Attrs = append(e.Attrs, dialect.TextAttr(key, dialect.Text(body, key)))
	}
	if f, ok := dialect.Number(body, "status_code"); ok {
		e.Attrs = append(e.Attrs, event.Attr{Key: "status_code", Num: true, Number: f})
	}
	// The browser was told to report a part of them only.
	if f, ok := dialect.Number(body, "sampling_fraction"); ok && f > 0 && f < 1 {
		e.Attrs = append(e.Attrs, event.Attr{Key: event.ShareKey, Num: true, Number: f})
	}
	if status, _ := dialect.Number(body, "status_code"); kind == "http.error" && status < 500 {
		e.Kind = event.Event // the server answered: not for the network to be blamed
	}
	if kind == "abandoned" {
		e.Kind = event.Event // nor where somebody left before it did
	}
	b.Add(s, e)
}

// DecodeVitals decodes metrics of the web-vitals library, an object or an
// array of them, as its readme shows to send them.
func DecodeVitals(r *dialect.Request) (dialect.Result, error) {
	items, err := list(r)
	if err != nil {
		return dialect.Result{}, err
	}
	b := dialect.NewBuilder(r)
	for _, v := range items {
		if v.Type() != fastjson.TypeObject {
			b.Reject(event.ReasonType, "metric", v.Type().String(), "an object with name and value")
			continue
		}
		id := dialect.Text(v, "id")
		// The id is v6-TIME-RANDOM; TIME is when the page was loaded.
		major, rest, _ := strings.Cut(strings.TrimPrefix(id, "v"), "-")
		s := source(r, "", r.Now)
		s.SDK, s.Ctx.Page = "web-vitals/"+major, dialect.Path(dialect.Text(v, "navigationURL"))
		loaded, _, _ := strings.Cut(rest, "-")
		name := dialect.Text(v, "name")
		f, ok := dialect.Number(v, "value")
		e, known := dialect.Vital(name, f, 0, dialect.TextAttr("rating", dialect.Text(v, "rating")), dialect.TextAttr("id", id), dialect.TextAttr("loaded", loaded))
		switch {
		case !known:
			b.Reject(event.ReasonName, "name", name, "LCP, INP, CLS, FCP, TTFB or FID")
		case !ok:
			b.Reject(event.ReasonType, "value", dialect.Text(v, "value"), "a number")
		default:
			b.Add(s, e)
		}
	}
	return b.Result(), nil
}
