package main

import (
	"fmt"
	"time"

	"go.yaml.in/yaml/v3"

	"serin.dev/serin/internal/tenant"
)

// privacyConfig says what a tenant does about clients that send a signal:
// ignore, strip or refuse.
type privacyConfig struct {
	GPC string `yaml:"gpc,omitempty"` // Sec-GPC; default strip
	DNT string `yaml:"dnt,omitempty"` // default ignore
}

// limitsConfig bounds a tenant's distinct texts; 0 is the default
// (docs/operations.md).
type limitsConfig struct {
	Window     time.Duration `yaml:"window,omitempty"`
	Apps       int           `yaml:"apps,omitempty"`
	Releases   int           `yaml:"releases,omitempty"`
	Arms       int           `yaml:"arms,omitempty"`
	Names      int           `yaml:"names,omitempty"`
	Pages      int           `yaml:"pages,omitempty"`
	Context    int           `yaml:"context,omitempty"`
	AttrKeys   int           `yaml:"attr_keys,omitempty"`
	AttrValues int           `yaml:"attr_values,omitempty"`
}

// scrubConfig is a boolean, or says which built-in rules apply and what the
// tenant's own are.
type scrubConfig struct {
	Off      bool            `yaml:"-"`
	Rules    []string        `yaml:"rules,omitempty"` // absent: all
	Patterns []patternConfig `yaml:"patterns,omitempty"`
}

type patternConfig struct {
	Name    string `yaml:"name"`
	Pattern string `yaml:"pattern"`
}

// UnmarshalYAML reads either form. A node decodes unknown fields in silence, so
// they are looked for here.
func (c *scrubConfig) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		var on bool
		if err := n.Decode(&on); err != nil {
			return fmt.Errorf("line %d: scrub: %q: want true, false, or rules and patterns", n.Line, n.Value)
		}
		*c = scrubConfig{Off: !on}
		return nil
	}
	if err := knownFields(n, "scrub", "rules", "patterns"); err != nil {
		return err
	}
	for i := 1; i < len(n.Content); i += 2 {
		if n.Content[i-1].Value != "patterns" {
			continue
		}
		for j, one := range n.Content[i].Content {
			if err := knownFields(one, fmt.Sprintf("scrub.patterns[%d]", j), "name", "pattern"); err != nil {
				return err
			}
		}
	}
	type plain scrubConfig // without this method
	return n.Decode((*plain)(c))
}

// knownFields reports a field of a mapping that is none of the names.
func knownFields(n *yaml.Node, where string, names ...string) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s: want fields %v", n.Line, where, names)
	}
fields:
	for i := 0; i < len(n.Content); i += 2 {
		for _, name := range names {
			if n.Content[i].Value == name {
				continue fields
			}
		}
		return fmt.Errorf("line %d: %s: field %s not found: want one of %v", n.Content[i].Line, where, n.Content[i].Value, names)
	}
	return nil
}

func (c *scrubConfig) spec() tenant.ScrubSpec {
	s := tenant.ScrubSpec{Off: c.Off, Rules: c.Rules}
	for _, p := range c.Patterns {
		s.Patterns = append(s.Patterns, tenant.Pattern(p))
	}
	return s
}
