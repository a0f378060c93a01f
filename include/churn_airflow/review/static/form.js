// Runs in Airflow's own window: goes to a DAG, opens its trigger form and fills in what is known. A person reads it and submits.
(() => {
  const { page, values } = document.currentScript.dataset;
  const patience = 15000;
  const pause = 500; // the form lives a moment after it is seen
  const found = (choose, then, since = performance.now()) => {
    const element = choose();
    if (element) then(element);
    else if (performance.now() - since < patience) setTimeout(() => found(choose, then, since), pause);
  };
  const enter = (input, value) => {
    const kind = input instanceof HTMLTextAreaElement ? HTMLTextAreaElement : HTMLInputElement;
    input.focus();
    Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(input, String(value));
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.blur();
  };
  const fill = ([name, value]) => {
    const field = () => document.querySelector(`[role=dialog] [name="element_${name}"]`);
    const unfolded = () => {
      const trigger = field()?.closest("[data-part=item]")?.querySelector("[data-part=item-trigger]");
      if (trigger && trigger.dataset.state === "closed") {
        trigger.focus(); // it heeds a click only when it has the focus
        trigger.click();
      }
      return field()?.checkVisibility() && field();
    };
    found(unfolded, () => setTimeout(() => enter(field(), value), pause));
  };
  history.pushState(null, "", page);
  dispatchEvent(new PopStateEvent("popstate", { state: null }));
  found(
    () => location.pathname === page && document.querySelector("[data-testid=trigger-dag-button]:not(:disabled)"),
    (button) => {
      button.click();
      Object.entries(JSON.parse(values)).forEach(fill);
    },
  );
})();
