package corpus

import "encoding/json"

// The native beacon as docs/formats/beacon.md has it.
type nativeBeacon struct {
	V       int               `json:"v"`
	SDK     string            `json:"sdk"`
	App     string            `json:"app"`
	Release string            `json:"release"`
	Tenancy string            `json:"tenancy"`
	Session string            `json:"session"`
	User    string            `json:"user"`
	Seq     int               `json:"seq"`
	Sent    int64             `json:"sent"`
	Arms    map[string]string `json:"arms"`
	Ctx     nativeContext     `json:"ctx"`
	Events  []nativeEvent     `json:"events"`
}

type nativeContext struct {
	Platform string `json:"platform"`
	OS       string `json:"os"`
	Browser  string `json:"browser"`
	Device   string `json:"device"`
	Network  string `json:"network"`
	Page     string `json:"page"`
}

type nativeEvent struct {
	K string         `json:"k"`
	N string         `json:"n"`
	T int64          `json:"t"`
	V *float64       `json:"v,omitempty"`
	M string         `json:"m,omitempty"`
	S string         `json:"s,omitempty"`
	A map[string]any `json:"a,omitempty"`
}

func native(b *Beacon) ([]byte, error) {
	n := nativeBeacon{V: 1, SDK: "serin-js/1.0.0", App: b.App, Release: b.Release, Tenancy: "production", Session: string(placeholder),
		User: b.User, Seq: b.Seq, Sent: b.Sent, Arms: map[string]string{b.Change: b.Arm},
		Ctx: nativeContext{b.Device.Platform, b.Device.OS, b.Device.Browser, b.Device.Class, b.Device.Network, b.Page}}
	for i := range b.Events {
		e := &b.Events[i]
		w := nativeEvent{K: e.Kind, N: e.Name, T: e.At, M: e.Message, S: stack(e.Frames)}
		if e.HasValue {
			w.V = &e.Value
		}
		switch e.Kind {
		case "exposure":
			w.A = map[string]any{"arm": b.Arm}
		case "request":
			w.N = e.Method + " " + e.Name
			w.A = map[string]any{"status": e.Status, "host": "api." + b.App + ".example"}
			if e.Status >= 500 {
				w.A["failed"] = true
			}
		case "error":
			w.A = map[string]any{"handled": e.Handled}
		case "vital":
			w.A = map[string]any{"rating": e.Rating}
		}
		n.Events = append(n.Events, w)
	}
	return json.Marshal(n)
}

// stack writes frames as browsers do.
func stack(frames []Frame) string {
	var out []byte
	for i, f := range frames {
		if i > 0 {
			out = append(out, '\n')
		}
		out = append(out, f.text()...)
	}
	return string(out)
}
