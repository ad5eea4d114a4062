"""A real browser: Chromium without a window, by its own driver."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException, TimeoutException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tools.servers.installed import search_path
from tools.servers.process import ProcessError

LIMIT = 60  # seconds for anything to appear


class Browser:
    """A browser with a profile of its own, which is gone at the end.  Its methods block: call them in a thread."""

    def __init__(self) -> None:
        driver, chromium = (shutil.which(name, path=search_path()) for name in ("chromedriver", "chromium"))
        if driver is None or chromium is None:
            raise ProcessError("chromium or chromedriver is not installed: make browser")
        self._profile = tempfile.TemporaryDirectory(
            prefix="junebug-turn-browser-", ignore_cleanup_errors=True
        )
        options = ChromeOptions()
        options.binary_location = chromium
        for argument in (
            "--headless=new",
            "--no-sandbox",  # root has none
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-background-networking",
            "--hide-scrollbars",
            f"--user-data-dir={self._profile.name}",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = Chrome(options, Service(driver))
        self.driver.set_page_load_timeout(LIMIT)

    def close(self) -> None:
        """End the browser."""
        self.driver.quit()
        self._profile.cleanup()

    def open(self, url: str) -> str:
        """Open a page, and return the text that a person sees on it."""
        self.driver.get(url)
        return self.text()

    def text(self) -> str:
        """The text that a person sees."""
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    def press(self, text: str) -> None:
        """Press the first button or link with this text."""

        def pressed(driver: Any) -> bool:
            xpath = f"//*[self::button or self::a or self::summary][normalize-space()='{text}']"
            for element in driver.find_elements(By.XPATH, xpath):
                if element.is_displayed():
                    element.click()
                    return True
            return False

        self.until(pressed, f"a button {text}")

    def type(self, name: str, text: str) -> None:
        """Type a text into a field."""
        field = self.driver.find_element(By.NAME, name)
        field.clear()
        field.send_keys(text)

    def sees(self, text: str) -> None:
        """Wait until a person sees this text."""
        self.until(lambda driver: text in self.text(), text)

    def until(self, condition: Callable[[Any], Any], what: str) -> None:
        wait = WebDriverWait(self.driver, LIMIT, 0.1, (StaleElementReferenceException, WebDriverException))
        try:
            wait.until(condition)
        except TimeoutException:
            raise AssertionError(f"waited in vain for {what} on:\n{self.text()}") from None

    def faults(self) -> list[str]:
        """What the browser has complained of since the last call: scripts, and what the policy refuses."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def picture(self, file: Path, width: int, height: int, *, dark: bool = False) -> None:
        """Take a picture of the page in a window of this size."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.save_screenshot(str(file))
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def width(self) -> tuple[int, int]:
        """The width of the page and of the window that it is in, in pixels."""
        root = "document.documentElement"
        return tuple(self.driver.execute_script(f"return [{root}.scrollWidth, {root}.clientWidth]"))
