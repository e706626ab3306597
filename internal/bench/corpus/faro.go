package corpus

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

func lower(s string) string { return strings.ToLower(s) }

// faro writes a body as version 2 of the web SDK does.
func faro(b *Beacon) ([]byte, error) {
	type m = map[string]any
	browser, version, _ := strings.Cut(b.Device.Browser, " ")
	var events, measurements, exceptions []m
	for i := range b.Events {
		e := &b.Events[i]
		at := time.UnixMilli(e.At).UTC().Format("2006-01-02T15:04:05.000Z")
		put := func(name string, attrs map[string]string) {
			events = append(events, m{"name": name, "domain": "browser", "timestamp": at, "attributes": attrs})
		}
		measure := func(kind, key string, ctx map[string]string) {
			measurements = append(measurements, m{"type": kind, "values": map[string]float64{key: e.Value}, "timestamp": at, "context": ctx})
		}
		switch e.Kind {
		case "exposure":
			put("exposure", map[string]string{"change": e.Name, "arm": b.Arm})
		case "session":
			put("session_"+e.Name, nil)
		case "view":
			put("view_changed", map[string]string{"fromView": "default", "toView": e.Name})
		case "request":
			put("faro.performance.resource", map[string]string{"name": "https://api." + b.App + ".example" + e.Name, "initiatorType": "fetch",
				"duration": fmt.Sprintf("%.1f", e.Value), "responseStatus": fmt.Sprint(e.Status), "protocol": "h2", "cacheHitStatus": "fullLoad"})
		case "resource":
			put("faro.performance.resource", map[string]string{"name": "https://cdn." + b.App + ".example" + e.Name, "initiatorType": "script",
				"duration": fmt.Sprintf("%.1f", e.Value), "responseStatus": "200", "protocol": "h2", "cacheHitStatus": "cache"})
		case "vital":
			measure("web-vitals", lower(e.Name), map[string]string{"rating": e.Rating, "navigation_type": "navigate"})
		case "longtask":
			measure("longtask", "duration", nil)
		case "metric":
			measure("custom", e.Name, nil)
		case "crash":
			exceptions = append(exceptions, m{"type": "crash", "value": e.Message, "timestamp": at})
		case "error":
			var frames []m
			for _, f := range e.Frames {
				frames = append(frames, m{"function": f.Function, "filename": f.File, "lineno": f.Line, "colno": f.Column})
			}
			x := m{"type": e.Name, "value": e.Message, "timestamp": at, "stacktrace": m{"frames": frames}}
			if e.Handled {
				x["context"] = m{"handled": "true"}
			}
			exceptions = append(exceptions, x)
		}
	}
	body := m{"meta": m{
		"sdk": m{"name": "faro-web", "version": "2.12.1"}, "app": m{"name": b.App, "version": b.Release, "environment": "production"},
		"session": m{"id": string(placeholder)}, "user": m{"id": b.User},
		"browser": m{"name": browser, "version": version, "os": b.Device.OS, "userAgent": b.Device.Agent, "language": "en-US", "mobile": b.Device.Class == "mobile"},
		"page":    m{"url": "https://www." + b.App + ".example" + b.Page}}}
	for key, list := range map[string][]m{"events": events, "measurements": measurements, "exceptions": exceptions} {
		if len(list) > 0 {
			body[key] = list
		}
	}
	return json.Marshal(body)
}
