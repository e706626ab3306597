package webhook

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// Format is the shape in which a target wants a verdict. All are signed alike.
type Format string

// The formats.
const (
	Standard    Format = "standard"    // Standard Webhooks' own: type, timestamp, data
	CloudEvents Format = "cloudevents" // CloudEvents 1.0, structured mode
	CDEvents    Format = "cdevents"    // CDEvents 0.5.1, a custom event
)

var formats = []Format{Standard, CloudEvents, CDEvents}

// ParseFormat reads a format; the empty text is [Standard].
func ParseFormat(s string) (Format, error) {
	if s == "" {
		return Standard, nil
	}
	if f := Format(s); slices.Contains(formats, f) {
		return f, nil
	}
	return "", fmt.Errorf("format: %q: want standard, cloudevents or cdevents", s)
}

// contentType returns the media type of a body.
func (f Format) contentType() string {
	if f == CloudEvents {
		return "application/cloudevents+json; charset=utf-8"
	}
	return "application/json"
}

// The types of events. CDEvents has no type for a verdict on a canary; its rule for types of other tools' is
// dev.cdeventsx.TOOL-SUBJECT.PREDICATE.VERSION (cdevents.dev/docs, custom events).
const (
	cloudEventType = "dev.serin.verdict."
	cdEventType    = "dev.cdeventsx.serin-canaryverdict.issued.0.1.0"
	cdEventsSpec   = "0.5.1"
)

// Payload returns the body that tells a verdict under a message's name.
func Payload(f Format, id string, v *verdict.Verdict) ([]byte, error) {
	source := "/tenants/" + url.PathEscape(v.Tenant) + "/apps/" + url.PathEscape(v.App)
	var body any
	switch f {
	case CloudEvents:
		body = struct {
			Spec        string           `json:"specversion"`
			ID          string           `json:"id"`
			Source      string           `json:"source"`
			Type        string           `json:"type"`
			Subject     string           `json:"subject"`
			Time        time.Time        `json:"time"`
			ContentType string           `json:"datacontenttype"`
			Data        *verdict.Verdict `json:"data"`
		}{"1.0", id, source, cloudEventType + v.Decision.String(), v.Rollout, v.IssuedAt, "application/json", v}
	case CDEvents:
		type context struct {
			Spec      string    `json:"specversion"`
			ID        string    `json:"id"`
			Source    string    `json:"source"`
			Type      string    `json:"type"`
			Timestamp time.Time `json:"timestamp"`
		}
		type content struct {
			Decision string    `json:"decision"`
			Number   uint64    `json:"number"`
			Stage    int       `json:"stage"`
			App      string    `json:"app"`
			Change   string    `json:"change"`
			Canary   string    `json:"canary"`
			Baseline string    `json:"baseline"`
			Sentence string    `json:"sentence"`
			Until    time.Time `json:"validUntil"`
		}
		type subject struct {
			ID      string  `json:"id"`
			Source  string  `json:"source"`
			Content content `json:"content"`
		}
		body = struct {
			Context context          `json:"context"`
			Subject subject          `json:"subject"`
			Data    *verdict.Verdict `json:"customData"`
			Type    string           `json:"customDataContentType"`
		}{context{cdEventsSpec, id, source, cdEventType, v.IssuedAt},
			subject{v.Rollout, source, content{v.Decision.String(), v.Number, v.Stage, v.App, v.Change, v.Canary, v.Baseline, v.Sentence, v.ValidUntil}}, v, "application/json"}
	default:
		body = struct {
			Type      string           `json:"type"`
			Timestamp time.Time        `json:"timestamp"`
			Data      *verdict.Verdict `json:"data"`
		}{"verdict", v.IssuedAt, v}
	}
	b, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("write verdict %d of %s: %w", v.Number, v.Rollout, err)
	}
	return b, nil
}
