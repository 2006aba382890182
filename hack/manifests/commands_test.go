package manifests

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/strvals"
	"sigs.k8s.io/yaml"
)

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// What pages say to type at kubectl and helm would install something.
func TestDocumentedCommands(t *testing.T) {
	c := loadChart(t)
	found := map[string]int{}
	for _, page := range []string{"../../README.md", images + "README.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range shellBlock.FindAllStringSubmatch(string(text), -1) {
			for line := range strings.Lines(block[1]) {
				line, _, _ = strings.Cut(line, " #")
				words := strings.Fields(line)
				if len(words) < 4 || words[0] != "kubectl" && words[0] != "helm" {
					continue
				}
				command := strings.Join(words[:3], " ")
				found[words[0]]++
				switch {
				case command == "kubectl create -f":
					text, err := os.ReadFile("../../" + words[3])
					if err != nil || len(decode(t, text)) == 0 {
						t.Errorf("%s: %v", line, err)
					}
				case command == "kubectl apply -k":
					decode(t, kustomized(t, strings.TrimPrefix(words[3], "images/kustomize/")))
				case command == "helm install cni-netops" && words[3] == "images/chart":
					values, err := yaml.Marshal(helmValues(t, words[4:]))
					if err != nil {
						t.Fatal(err)
					}
					if _, err := render(c, string(values)); err != nil {
						t.Errorf("%s: %v", line, err)
					}
				default:
					t.Errorf("it is not known what %q does", line)
				}
			}
		}
	}
	if found["kubectl"] < 4 || found["helm"] < 4 {
		t.Errorf("only %v", found)
	}
}

// helmValues are those that --set sets.
func helmValues(t *testing.T, args []string) map[string]any {
	t.Helper()
	values := map[string]any{}
	for ; len(args) > 1; args = args[2:] {
		switch args[0] {
		case "--namespace":
		case "--set":
			if err := strvals.ParseInto(args[1], values); err != nil {
				t.Error(err)
			}
		default:
			t.Errorf("unknown %s", args[0])
		}
	}
	if len(args) > 0 {
		t.Errorf("unknown %q", args)
	}
	return values
}
