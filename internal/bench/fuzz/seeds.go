package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"serin.dev/serin/internal/bench/corpus"
)

// seed is a good request that is mutated. Its key is recordedKey wherever a
// key stands.
type seed struct {
	protocol string
	target   string
	headers  string // lines
	body     []byte
}

// recordedKey is the key of the recorded requests.
const recordedKey = "pk_e2e"

// A report of each kind that browsers send; the recorded requests have none.
const reports = `[{"age":10,"type":"crash","url":"https://shop.example/p","user_agent":"Mozilla/5.0","body":{"reason":"oom"}},
{"age":27,"type":"network-error","url":"https://shop.example/p","user_agent":"Mozilla/5.0","body":{"type":"tcp.refused","phase":"connection","elapsed_time":3,"status_code":0,"sampling_fraction":0.5}},
{"age":3,"type":"deprecation","url":"https://shop.example/p","user_agent":"Mozilla/5.0","body":{"id":"unload","message":"is deprecated","lineNumber":3}},
{"age":4,"type":"csp-violation","url":"https://shop.example/p","user_agent":"Mozilla/5.0","body":{"blockedURL":"https://evil.example/","effectiveDirective":"script-src"}}]`

// seeds reads what SDKs sent and were recorded with, and adds bodies of the
// benchmarks' own traffic.
func seeds(dir string) (map[string][]seed, error) {
	out := map[string][]seed{}
	add := func(s seed) { out[s.protocol] = append(out[s.protocol], s) }
	files, err := filepath.Glob(filepath.Join(dir, "testdata", "captures", "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read a recorded request: %w", err)
		}
		var list []struct {
			Target       string
			Headers      map[string]string
			Text, Base64 string
		}
		if err := json.Unmarshal(text, &list); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		protocol := strings.TrimRight(strings.TrimSuffix(filepath.Base(file), ".json"), "0123456789")
		for _, c := range list {
			s := seed{protocol: strings.Replace(strings.Replace(protocol, "oteljson", "otlp", 1), "otelproto", "otlp", 1), target: c.Target, body: []byte(c.Text)}
			if c.Base64 != "" {
				if s.body, err = base64.StdEncoding.DecodeString(c.Base64); err != nil {
					return nil, fmt.Errorf("read %s: %w", file, err)
				}
			}
			for name, value := range c.Headers {
				s.headers += name + ": " + value + "\r\n"
			}
			if !strings.Contains(s.target+s.headers, recordedKey) {
				s.headers += "x-api-key: " + recordedKey + "\r\n"
			}
			add(s)
		}
	}
	native := "/v1/beacons?key=" + recordedKey
	files, err = filepath.Glob(filepath.Join(dir, "beacon", "testdata", "*", "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read a beacon: %w", err)
		}
		for _, kind := range []string{"native", "stream"} {
			add(seed{kind, native, "", bytes.TrimSpace(text)})
		}
	}
	add(seed{"reports", "/v1/reports?app=shop-web&release=2.4.1&key=" + recordedKey, "content-type: application/reports+json\r\n", []byte(reports)})
	sessions := corpus.Make(corpus.Options{Seed: 1, Sessions: 8, Events: 10, Now: 1764000000000})
	for _, f := range corpus.Formats {
		bodies, err := corpus.Encode(f, sessions)
		if err != nil {
			return nil, err
		}
		for _, b := range slices.Concat(bodies...) {
			line, headers, _ := strings.Cut(string(corpus.Head(f, "host", recordedKey)), "\r\n")
			headers, _, _ = strings.Cut(headers, "Content-Length")
			_, headers, _ = strings.Cut(headers, "\r\n") // without the host
			protocol := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(string(f), "-gzip"), "-json"), "-proto")
			add(seed{protocol, strings.Fields(line)[1], headers, b.Bytes})
		}
	}
	for _, p := range []string{"native", "stream", "faro", "sentry", "otlp", "reports", "elastic", "datadog", "vitals"} {
		if len(out[p]) == 0 {
			return nil, fmt.Errorf("no recorded requests of %s in %s: want the folder of the package ingest", p, dir)
		}
	}
	return out, nil
}

// head is the head of a request, up to the number of its body's bytes.
func (s *seed) head(host, key, from string, packed bool) []byte {
	headers := strings.ReplaceAll(s.headers, recordedKey, key)
	if packed && !strings.Contains(strings.ToLower(headers), "content-encoding") {
		headers += "Content-Encoding: gzip\r\n"
	}
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\n%s%sContent-Length: ", strings.ReplaceAll(s.target, recordedKey, key), host, from, headers)
}
