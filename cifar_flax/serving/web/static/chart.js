// The most likely classes as bars that grow, shrink and change places from one prediction to the next. One of them is chosen, as
// among radio buttons: by click, arrow keys, space or Enter.

const ROW = 58, BAR = 14, BAR_TOP = 26, VALUE = 64; // pixels; VALUE is the room of the number at the end of a label
const STEPS = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, " ": 0, Enter: 0 };
const percent = d3.format(".1%");
// The server writes names as people do, in the list of all classes.
const names = new Map([...document.querySelectorAll("[data-name]")].map((element) => [element.dataset.name, element.textContent]));

export const readable = (name) => names.get(name) ?? name;

export function describe({ class: name, superclass, probability }) {
  return `${readable(name)}${superclass ? ` (${readable(superclass)})` : ""}: ${percent(probability)}`;
}

// Shortens the superclass, then the name, until both stand left of the number.
function fit(label, room) {
  const [name, superclass] = label.querySelectorAll("tspan");
  for (const [part, text] of [[name, label.__data__.class], [superclass, label.__data__.superclass ?? ""]]) {
    part.textContent = readable(text);
  }
  for (const part of [superclass, name]) {
    while (part.textContent && label.getComputedTextLength() > room) {
      part.textContent = part.textContent.replace(/.…?$/u, part.textContent.length > 2 ? "…" : "");
    }
  }
}

export class Chart {
  #svg;
  #predictions = [];
  #chosen = null; // a class
  #choose;
  #tooltip;
  #width; // pixels, as drawn

  // Calls `choose` with a prediction when the visitor chooses its bar, even the one that is chosen; of new predictions the first is
  // chosen.
  constructor(container, tooltip, choose) {
    this.#tooltip = tooltip;
    this.#choose = choose;
    this.#svg = d3.select(container).append("svg")
      .attr("role", "radiogroup").attr("aria-label", "The most likely classes; one is explained").attr("width", "100%");
    // Which also grows in height, with the first prediction, whose bars should not jump for it.
    new ResizeObserver(() => this.#svg.node().clientWidth !== this.#width && this.#draw(0)).observe(container);
    addEventListener("keydown", (event) => event.key === "Escape" && this.#hide());
  }

  show(predictions) {
    this.#predictions = predictions;
    this.#chosen = predictions[0]?.class;
    this.#hide();
    this.#draw(matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 700);
  }

  #draw(duration) {
    const width = this.#width = this.#svg.node().clientWidth;
    const x = d3.scaleLinear().domain([0, 1]).range([0, width]);
    const transition = d3.transition().duration(duration).ease(d3.easeCubicOut);
    this.#svg.attr("height", Math.max(0, ROW * this.#predictions.length - ROW + BAR_TOP + BAR));

    const rows = this.#svg.selectAll("g.bar:not(.leaving)").data(this.#predictions, (d) => d.class);
    rows.exit().classed("leaving", true).attr("aria-hidden", true).transition(transition).style("opacity", 0).remove();
    const entering = this.#enter(rows.enter(), width);
    const all = entering.merge(rows).order()
      .attr("aria-label", describe)
      .attr("data-class", (d) => d.class)
      .attr("aria-checked", (d) => d.class === this.#chosen)
      .attr("tabindex", (d) => (d.class === this.#chosen ? 0 : -1))
      .attr("data-probability", (d) => d.probability);
    all.select(".track").attr("width", width);
    all.select(".target").attr("width", width + 20);
    all.select(".value").attr("x", width);
    all.select(".label").each(function () { fit(this, width - VALUE); });
    all.transition(transition).style("opacity", 1).attr("transform", (d, i) => `translate(0,${i * ROW})`);
    all.select(".fill").classed("first", (d) => d === this.#predictions[0])
      .transition(transition).attr("width", (d) => x(d.probability));
    all.select(".value").transition(transition).tween("text", function (d) {
      const between = d3.interpolateNumber(this.shown ?? 0, d.probability);
      return (t) => { this.textContent = percent(this.shown = between(t)); };
    });
  }

  #enter(enter, width) {
    const rows = enter.append("g").attr("class", "bar").attr("role", "radio")
      .style("opacity", 0).attr("transform", (d, i) => `translate(0,${i * ROW})`);
    rows.append("rect").attr("class", "target").attr("x", -10).attr("y", -4).attr("height", ROW - 4).attr("rx", 8);
    const label = rows.append("text").attr("class", "label").attr("y", 17);
    label.append("tspan").attr("class", "name");
    label.append("tspan").attr("class", "superclass").attr("dx", 8);
    rows.append("text").attr("class", "value").attr("y", 17).attr("text-anchor", "end");
    rows.append("rect").attr("class", "track").attr("y", BAR_TOP).attr("height", BAR).attr("rx", 3);
    rows.append("rect").attr("class", "fill").attr("y", BAR_TOP).attr("height", BAR).attr("rx", 3).attr("width", 0);
    return rows.on("mouseenter focus", (d, i, nodes) => this.#tell(d, nodes[i])).on("mouseleave blur", () => this.#hide())
      .on("click", (d) => this.#take(d)).on("keydown", (d) => this.#step(d));
  }

  #step(prediction) {
    const { key, altKey, ctrlKey, metaKey } = d3.event, step = STEPS[key], { length } = this.#predictions;
    if (step === undefined || altKey || ctrlKey || metaKey) return; // Alt and an arrow is the browser's way back
    d3.event.preventDefault(); // or the page would scroll
    const next = this.#predictions[(this.#predictions.indexOf(prediction) + step + length) % length];
    this.#take(next);
    this.#svg.selectAll("g.bar:not(.leaving)").filter((d) => d === next).node().focus();
  }

  #take(prediction) {
    this.#chosen = prediction.class;
    this.#svg.selectAll("g.bar:not(.leaving)")
      .attr("aria-checked", (d) => d === prediction).attr("tabindex", (d) => (d === prediction ? 0 : -1));
    this.#choose(prediction);
  }

  #tell(prediction, row) {
    if (matchMedia("(hover: none)").matches) return; // it would stay where it was touched
    const { class: name, superclass, probability } = prediction;
    const lines = [readable(name), superclass && `one of: ${readable(superclass)}`, `probability ${d3.format(".2%")(probability)}`];
    this.#tooltip.replaceChildren(...lines.filter(Boolean).map((line) => {
      const paragraph = document.createElement("p");
      paragraph.textContent = line;
      return paragraph;
    }));
    this.#tooltip.hidden = false;
    const box = row.querySelector(".track").getBoundingClientRect(), tip = this.#tooltip.getBoundingClientRect();
    const left = Math.min(box.left + Math.max(box.width * probability, 40), innerWidth - tip.width - 8);
    this.#tooltip.style.left = `${Math.max(8, left) + scrollX}px`;
    this.#tooltip.style.top = `${box.bottom + 6 + scrollY}px`;
  }

  #hide() {
    this.#tooltip.hidden = true;
  }
}
