package interop

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/santhosh-tekuri/jsonschema/v6"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// TestEvents reads what is pushed with the libraries of the standards: Standard
// Webhooks' verifier, the CloudEvents SDK, CDEvents' own schema (cdevents/spec
// v0.5.1, Apache License 2.0; its links, which Serin does not send, are left open).
func TestEvents(t *testing.T) {
	verify, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	schema := cdSchema(t)
	seen := make(chan string, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		if err := verify.Verify(raw, r.Header); err != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		r.Body = io.NopCloser(strings.NewReader(string(raw)))
		switch r.URL.Path {
		case "/cloudevents":
			m := cehttp.NewMessageFromHttpRequest(r)
			if m.ReadEncoding() != binding.EncodingStructured {
				t.Errorf("encoding %v, want structured", m.ReadEncoding())
			}
			e, err := binding.ToEvent(r.Context(), m)
			if err != nil {
				t.Errorf("CloudEvents: %v of %s", err, raw)
				return
			}
			var v struct{ Rollout, Decision string }
			if err := e.DataAs(&v); err != nil || e.Validate() != nil || v.Rollout != e.Subject() || "dev.serin.verdict."+v.Decision != e.Type() || e.ID() != r.Header.Get("webhook-id") {
				t.Errorf("CloudEvents: %v, %v: %s", err, e.Validate(), e)
			}
			seen <- "cloudevents " + v.Decision
		case "/cdevents":
			v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
			if err == nil {
				err = schema.Validate(v)
			}
			if err != nil {
				t.Errorf("CDEvents: %v of %s", err, raw)
			}
			seen <- "cdevents"
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer hook.Close()
	s := startSerin(t, fmt.Sprintf("  webhooks:\n  - {name: a, url: %[1]s/cloudevents, secret: %[2]s, format: cloudevents}\n  - {name: b, url: %[1]s/cdevents, secret: %[2]s, format: cdevents}\n", hook.URL, secret))
	s.rollout(t, "r-1.0")
	s.decide(t, "r-1.0", "rollback")
	got := map[string]bool{}
	for deadline := time.After(20 * time.Second); !got["cloudevents rollback"] || !got["cdevents"]; {
		select {
		case what := <-seen:
			got[what] = true
		case <-deadline:
			t.Fatalf("seen: %v", got)
		}
	}
}

func cdSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	open, err := jsonschema.UnmarshalJSON(strings.NewReader(`{"type":"array"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddResource("https://cdevents.dev/0.5.1/schema/links/embeddedlinksarray", open); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("testdata/cdevents-0.5.1-custom.json")
	if err != nil {
		t.Fatal(err)
	}
	// A schema that takes anything would prove nothing.
	var bad any
	if err := json.Unmarshal([]byte(`{"context":{},"subject":{}}`), &bad); err != nil || s.Validate(bad) == nil {
		t.Fatalf("the schema takes %v, %v", bad, err)
	}
	return s
}
