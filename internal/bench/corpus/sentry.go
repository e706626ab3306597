package corpus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// sentry writes an envelope as version 10 of the browser SDK does: session
// items, one transaction with the vitals as measurements and the requests as
// spans, and an event for each error. What Sentry's clients have no word for
// (an exposure, a metric) is a message.
func sentry(b *Beacon) ([]byte, error) {
	type m = map[string]any
	var out bytes.Buffer
	var fault error
	line := func(v any) {
		text, err := json.Marshal(v)
		if err != nil {
			fault = err
		}
		out.Write(text)
		out.WriteByte('\n')
	}
	item := func(kind string, v any) {
		line(m{"type": kind})
		line(v)
	}
	iso := func(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }
	seconds := func(ms float64) json.Number { return json.Number(fmt.Sprintf("%.4f", ms/1000)) }
	release, url := b.App+"@"+b.Release, "https://www."+b.App+".example"+b.Page
	line(m{"sent_at": iso(b.Sent), "sdk": m{"name": "sentry.javascript.browser", "version": "10.78.0"},
		"trace": m{"trace_id": string(placeholder), "environment": "production", "release": release, "public_key": "pk"}})

	measurements, spans := m{}, []m{}
	op := "ui.action" // a transaction that is no page load
	start, end := b.Sent, int64(0)
	common := func(e *Event, id int) m {
		return m{"event_id": fmt.Sprintf("%08x%08x%016x", b.Seq, id, uint64(e.At)), "timestamp": seconds(float64(e.At)), "platform": "javascript",
			"environment": "production", "release": release, "user": m{"id": b.User},
			"contexts": m{"trace": m{"trace_id": string(placeholder), "span_id": fmt.Sprintf("%016x", uint64(e.At))}},
			"request":  m{"url": url, "headers": m{"User-Agent": b.Device.Agent}}}
	}
	for i := range b.Events {
		e := &b.Events[i]
		start, end = min(start, e.At), max(end, e.At)
		span := func(op, description string, data m) {
			spans = append(spans, m{"op": op, "description": description, "span_id": fmt.Sprintf("%016x", uint64(e.At)), "trace_id": string(placeholder),
				"start_timestamp": seconds(float64(e.At)), "timestamp": seconds(float64(e.At) + e.Value), "data": data})
		}
		switch e.Kind {
		case "session":
			s := m{"sid": string(placeholder), "started": iso(e.At), "timestamp": iso(e.At), "status": "ok", "errors": 0, "did": b.User,
				"attrs": m{"release": release, "environment": "production", "user_agent": b.Device.Agent}}
			if e.Name == "start" {
				s["init"] = true
			} else {
				s["status"] = "exited"
			}
			item("session", s)
		case "view":
			op = "pageload"
		case "vital":
			name, unit := lower(e.Name), "millisecond"
			if e.Name == "CLS" {
				unit = ""
			}
			value := m{"value": e.Value, "unit": unit}
			if measurements[name] == nil {
				measurements[name] = value
				continue
			}
			item("span", m{"op": "ui.interaction.click", "description": "body > button", "trace_id": string(placeholder), "span_id": fmt.Sprintf("%016x", uint64(e.At)),
				"start_timestamp": seconds(float64(e.At)), "timestamp": seconds(float64(e.At) + e.Value), "data": m{"release": release, "environment": "production", "user": b.User},
				"measurements": m{name: value}})
		case "request":
			span("http.client", e.Method+" https://api."+b.App+".example"+e.Name, m{"http.request.method": e.Method, "url.full": "https://api." + b.App + ".example" + e.Name,
				"http.response.status_code": e.Status})
		case "resource":
			span("resource.script", "https://cdn."+b.App+".example"+e.Name, m{"http.response_transfer_size": 18231})
		case "longtask":
			span("ui.long-task", "Main UI thread blocked", nil)
		case "error", "crash":
			var frames []m
			for _, f := range slices.Backward(e.Frames) { // the innermost is last
				frames = append(frames, m{"function": f.Function, "filename": f.File, "lineno": f.Line, "colno": f.Column, "in_app": true})
			}
			v := common(e, i)
			v["level"] = "error"
			if e.Kind == "crash" {
				v["level"] = "fatal"
			}
			v["exception"] = m{"values": []m{{"type": e.Name, "value": e.Message, "stacktrace": m{"frames": frames},
				"mechanism": m{"type": "auto.browser.global_handlers.onerror", "handled": e.Handled}}}}
			item("event", v)
		default:
			v := common(e, i)
			v["level"], v["message"] = "info", fmt.Sprintf("%s %s %g", e.Kind, e.Name, e.Value)
			item("event", v)
		}
	}
	if len(measurements)+len(spans) > 0 || op == "pageload" {
		item("transaction", m{"type": "transaction", "transaction": b.Page, "start_timestamp": seconds(float64(start)), "timestamp": seconds(float64(end)),
			"platform": "javascript", "environment": "production", "release": release, "user": m{"id": b.User},
			"contexts":     m{"trace": m{"trace_id": string(placeholder), "span_id": fmt.Sprintf("%016x", uint64(b.Sent)), "op": op, "status": "ok"}},
			"request":      m{"url": url, "headers": m{"User-Agent": b.Device.Agent}},
			"measurements": measurements, "spans": spans})
	}
	return out.Bytes(), fault
}
